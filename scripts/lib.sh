# Shared by the scripts beside it; not run by itself.
# shellcheck shell=bash
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs="$(nproc)"
began="$SECONDS"

say() { printf '\n== %s  [%d:%02d]\n' "$*" $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)); }
fail() { printf '\n%s: FAILED: %s\n' "$0" "$*" >&2; exit 1; }

# Runs a command; when it fails, names the step and ends.
step() {
  local what="$1"
  shift
  say "$what"
  "$@" || fail "$what (exit $?): $*"
}

as_root() {
  if [[ "$(id -u)" -eq 0 ]]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  elif command -v sudo > /dev/null; then
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  else
    fail "packages are missing and there is neither root nor sudo: $*"
  fi
}

is_installed() { [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2> /dev/null)" == installed ]]; }

# need GROUP...: installs the missing packages of these groups of packages.txt.
need() {
  command -v dpkg-query > /dev/null || fail "this script installs Debian packages; on other systems see scripts/packages.txt"
  local missing=() group name wanted
  while read -r group name; do
    for wanted in "$@"; do
      if [[ "$group" == "$wanted" ]] && ! is_installed "$name"; then missing+=("$name"); fi
    done
  done < <(grep -v '^#' scripts/packages.txt)
  [[ ${#missing[@]} -gt 0 ]] || return 0
  say "install ${missing[*]}"
  as_root apt-get update -qq || fail "apt-get update"
  as_root apt-get install -qq -y --no-install-recommends "${missing[@]}" > /dev/null || fail "apt-get install ${missing[*]}"
}

# build PRESET [TARGET...]
build() {
  local preset="$1" targets=()
  shift
  [[ $# -eq 0 ]] || targets=(--target "$@")
  step "configure $preset" cmake --preset "$preset" --log-level=WARNING
  step "build $preset" cmake --build --preset "$preset" -j "$jobs" "${targets[@]}"
}
