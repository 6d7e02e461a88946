# Shared by the scripts beside it; not run by itself.
# shellcheck shell=bash
#
#   peer NAME TEXT FILE...
#
# Sets `root` to the folder of a peer: NAME-HASH, with the hash of TEXT and of the FILES, so that checkouts that want
# different versions do not take each other's away. What is there is used when its marker `installed` is there and
# peer_works says so; else the folder is made anew by peer_install. One process at a time does this for a peer.
#
# The script that calls it has two functions; both find the folder in `root`:
#   peer_install   fills the empty folder, and calls `fail` when it cannot
#   peer_works     returns 0 when what is there can be used; quick and silent
#
# Everything lies under ${PENSTOCK_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/penstock/peers}.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
peers="${PENSTOCK_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/penstock/peers}"
unused_days=30
lock_wait_s=3600

fail() { echo "tools/peers/$(basename "$0"): $*" >&2; exit 1; }

peer() {
  local name="$1" text="$2"
  shift 2
  root="$peers/$name-$({ echo "$text"; cat "$@"; } | sha256sum | head -c 12)"
  mkdir -p "$peers" || fail "cannot make the folder $peers"
  exec 9> "$peers/$name.lock" || fail "cannot write $peers/$name.lock"
  if ! flock -w 5 9; then
    echo "tools/peers/$name: waiting for another process that installs it" >&2
    flock -w "$lock_wait_s" 9 || fail "another process holds $peers/$name.lock for more than $lock_wait_s s"
  fi
  if [[ -f "$root/installed" ]] && peer_works > /dev/null 2>&1; then
    touch "$root/installed"
  else
    echo "tools/peers/$name: installing into $root" >&2
    peer_forget_unused "$name"
    rm -rf "$root"
    mkdir "$root"
    peer_install
    peer_works > /dev/null || fail "what was installed into $root does not work"
    touch "$root/installed"
  fi
  exec 9>&-
}

# Removes the folders of this peer that nobody used for a while, and those that an interrupted install left as long ago.
peer_forget_unused() {
  local name="$1" folder seen
  for folder in "$peers/$name"-????????????; do
    [[ -d "$folder" && "$folder" != "$root" ]] || continue
    seen="$folder"
    if [[ -f "$folder/installed" ]]; then seen="$folder/installed"; fi
    if [[ -n "$(find "$seen" -maxdepth 0 -mtime "+$unused_days")" ]]; then
      echo "tools/peers/$name: removing $folder, unused for $unused_days days" >&2
      rm -rf "$folder"
    fi
  done
}

# new_venv PYTHON REQUIREMENTS [pip flags...]: the virtual environment $root/venv with the packages of a file.
new_venv() {
  local python="$1" requirements="$2"
  shift 2
  "$python" -m venv "$root/venv" >&2 || fail "cannot make a virtual environment: apt-get install python3-venv"
  "$root/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" -r "$requirements" >&2 ||
    fail "pip could not install the packages of $requirements"
}
