"""tools/check on a tiny tree that keeps every rule, and then breaks one rule at a time."""

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHECK = ROOT / "tools" / "check"

PROGRAM = """#!/bin/sh
printf 'reference\\n' > "$2/plugins.md"
"""

FILES = {
    ".clang-format": "BasedOnStyle: Google\nColumnLimit: 100\n",
    "tools/layers.txt": "# Row and module.\n0 core\n1 wire\n5 plugins\n",
    "cmake/modules.cmake": "penstock_module(core)\npenstock_module(wire DEPS core LIBS yaml-cpp)\n"
    "penstock_module(plugins DEPS core wire)\n",
    "src/core/text.h": "#pragma once\n\nint Zero();\n",
    "src/core/text.cc": '#include "core/text.h"\n\nint Zero() { return 0; }\n',
    "src/wire/yaml.cc": '#include <yaml-cpp/yaml.h>\n\n#include "core/text.h"\n\nint One() { return 1 + Zero(); }\n',
    "src/plugins/builtin_scorers.inc": "PENSTOCK_PLUGIN(KvScorer)\nPENSTOCK_PLUGIN(QueueScorer)\n",
    "src/plugins/scorers/kv_scorer.cc": "int Kv() { return 0; }\n",
    "src/plugins/scorers/kv_scorer_test.cc": "int KvTest() { return 0; }\n",
    "src/plugins/scorers/queue_scorer.cc": "int Queue() { return 0; }\n",
    "src/plugins/scorers/queue_scorer_test.cc": "int QueueTest() { return 0; }\n",
    "README.md": "# A tree\n\nSee [the page](docs/page.md#a-part-of-it).\n",
    "docs/page.md": "# Page\n\n## A part of it\n\n[up](../README.md), [out](https://example.org/x), `[no](link)`\n",
    "docs/generated/plugins.md": "reference\n",
    "build/dev/bin/penstock": PROGRAM,
}


class Tree:
    def __init__(self, root: Path):
        self.root = root
        for name, text in FILES.items():
            self.write(name, text)
        (root / "build/dev/bin/penstock").chmod(0o755)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def check(self, *args: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, str(CHECK), "--root", str(self.root), *args], capture_output=True, text=True,
            env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        )
        return done.returncode, done.stdout + done.stderr

    def fails(self, check: str) -> str:
        code, output = self.check(check)
        assert code == 1 and f"{check} " in output and "FAILED" in output, output
        return output


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path)


def test_a_good_tree_passes(tree):
    code, output = tree.check()
    assert code == 0, output
    assert [line.split()[-1] for line in output.splitlines()] == ["ok"] * 8


def test_a_failed_check_does_not_hide_the_others(tree):
    tree.write("docs/a.md", "[x](nowhere.md) \n")
    code, output = tree.check("links", "whitespace", "plugins")
    assert code == 1
    assert output.count("FAILED") == 2 and output.count(" ok") == 1


@pytest.mark.skipif(shutil.which("clang-format-14") is None, reason="needs clang-format-14")
def test_format_names_the_file_and_the_command(tree):
    tree.write("src/core/text.cc", "int Zero(){return 0;}\n")
    output = tree.fails("format")
    assert "fix: clang-format-14 -i src/core/text.cc\n" in output


def test_format_says_when_the_tool_is_missing(tree):
    done = subprocess.run(
        [sys.executable, str(CHECK), "--root", str(tree.root), "format"], capture_output=True, text=True,
        env={"PATH": "/nowhere"},
    )
    assert done.returncode == 1 and "apt-get install clang-format-14" in done.stdout


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("src/core/text.cc", '#include "wire/yaml.h"\n', "src/core/text.cc:1: core (row 0) must not include wire (row 1)"),
        ("src/core/text_test.cc", '\n# include "wire/yaml.h"\n', "src/core/text_test.cc:2: core (row 0) must not include"),
        ("src/wire/yaml.h", '#include "yaml.h"\n', '"yaml.h" is of no module'),
        ("src/extra/x.h", "int X();\n", "src/extra: is not in tools/layers.txt"),
        ("tools/layers.txt", "0 core\n1 wire\n5 plugins\n6 director\n", "there is no src/director"),
        ("tools/layers.txt", "0 core\n0 wire\n5 plugins\n", "wire (row 0) must not include core (row 0)"),
        ("cmake/modules.cmake", "penstock_module(core DEPS wire)\n", "modules.cmake:1: core (row 0) must not link wire"),
        ("cmake/modules.cmake", "\npenstock_module(wire DEPS nets)\n", "modules.cmake:2: wire links nets"),
        ("cmake/modules.cmake", "penstock_module(other)\n", "module other is not in"),
    ],
)
def test_layers(tree, name, text, finding):
    tree.write(name, text)
    assert finding in tree.fails("layers")


@pytest.mark.parametrize(
    "header", ["boost/asio/ip/tcp.hpp", "simdjson.h", "yaml-cpp/yaml.h", "CLI/CLI.hpp",
               "google/protobuf/message.h"])
def test_heavy_headers_stay_out_of_headers(tree, header):
    tree.write("src/core/text.cc", f"#include <{header}>\n")
    assert tree.check("heavy")[0] == 0
    tree.write("src/core/text.h", f"#pragma once\n#include <{header}>\n")
    assert f"src/core/text.h:2: <{header}>" in tree.fails("heavy")


def test_light_parts_of_boost_may_be_in_headers(tree):
    tree.write("src/core/text.h", "#include <boost/smart_ptr/intrusive_ptr.hpp>\n")
    assert tree.check("heavy")[0] == 0


def test_the_one_header_with_asio_is_for_its_own_module(tree):
    tree.write("src/net/internal_asio.h", "#include <boost/asio/io_context.hpp>\n")
    tree.write("src/net/loop.cc", '#include "net/internal_asio.h"\n')
    assert tree.check("heavy")[0] == 0
    tree.write("src/net/loop.h", '#include "net/internal_asio.h"\n')
    tree.write("src/http/client.cc", '#include "net/internal_asio.h"\n')
    output = tree.fails("heavy")
    assert "src/net/loop.h" in output and "src/http/client.cc" in output and "loop.cc" not in output


def body(lines: int) -> str:
    """A function of that many lines."""
    return "int F() {\n" + "  Call();\n" * (lines - 2) + "}\n"


def test_sizes_at_the_limit_pass(tree):
    tree.write("src/core/a.cc", body(100) + body(100) * 7)
    assert tree.check("sizes")[0] == 0


def test_sizes_above_the_limit_fail(tree):
    tree.write("src/core/a.cc", body(101))
    tree.write("src/core/b.cc", "int x;\n" * 801)
    output = tree.fails("sizes")
    assert "src/core/a.cc:1: F has 101 lines" in output
    assert "src/core/b.cc: 801 lines" in output


def test_tests_are_listed_and_have_no_limit(tree):
    tree.write("src/core/a_test.cc", body(900))
    code, output = tree.check("sizes", "--sizes")
    assert code == 0
    assert "  900 src/core/a_test.cc" in output.partition("longest tests")[2]


def test_docs_must_be_what_the_program_writes(tree):
    tree.write("docs/generated/plugins.md", "older\n")
    tree.write("docs/generated/gone.md", "x\n")
    output = tree.fails("docs")
    assert "docs/generated/plugins.md: differs" in output
    assert "docs/generated/gone.md: is made no more" in output
    assert "fix: build/dev/bin/penstock docs docs/generated" in output
    (tree.root / "docs/generated/plugins.md").unlink()
    assert "docs/generated/plugins.md: is missing" in tree.fails("docs")


def test_docs_need_a_build_unless_left_out(tree):
    shutil.rmtree(tree.root / "build")
    assert "no build to ask" in tree.fails("docs")
    assert tree.check("--no-docs")[0] == 0


def test_docs_report_a_program_that_fails(tree):
    tree.write("build/dev/bin/penstock", "#!/bin/sh\necho broken >&2\nexit 3\n")
    assert "ended with 3: broken" in tree.fails("docs")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("a\n[x](gone.md)\n", "docs/bad.md:2: gone.md leads nowhere"),
        ("![x](images/gone.png)\n", "images/gone.png leads nowhere"),
        ("[x](/docs/page.md)\n", "/docs/page.md leads nowhere"),
        ("[x][1]\n\n[1]: gone.md\n", "docs/bad.md:3: gone.md leads nowhere"),
        ("[x](page.md#nothing)\n", "no heading makes #nothing"),
        ("```\n[x](ignored.md)\n```\n[x](#nothing)\n", "docs/bad.md:4: #nothing"),
    ],
)
def test_links(tree, text, finding):
    tree.write("docs/bad.md", text)
    output = tree.fails("links")
    assert finding in output and "ignored" not in output


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("src/plugins/builtin_scorers.inc", "PENSTOCK_PLUGIN(QueueScorer)\nPENSTOCK_PLUGIN(KvScorer)\n", "not sorted"),
        ("src/plugins/builtin_scorers.inc", "PENSTOCK_PLUGIN(KvScorer)\n" * 2, "not sorted, or twice: KvScorer"),
        ("src/plugins/builtin_scorers.inc", "PENSTOCK_PLUGIN(Lost)\n", "Lost has no src/plugins/scorers/lost_test.cc"),
        ("src/plugins/builtin_scorers.inc", "KvScorer\n", "builtin_scorers.inc:1: is no PENSTOCK_PLUGIN"),
        ("src/plugins/scorers/odd.cc", "sched::PluginType OddType() { return {}; }\n", "odd.cc: is in no builtin"),
    ],
)
def test_plugins(tree, name, text, finding):
    tree.write(name, text)
    assert finding in tree.fails("plugins")


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("a.txt", "x \n", "a.txt:1: white space"),
        ("a.txt", "x\ny\t\n", "a.txt:2: white space"),
        ("a.txt", "x\r\n", "a.txt:1: white space"),
        ("a.txt", "x", "does not end with a newline"),
        ("a.txt", "x\n\n", "ends with an empty line"),
        ("src/core/a.h", "\tint x;\n", "src/core/a.h:1: indented with a tab"),
        ("tests/a.py", "if x:\n  \ty()\n", "tests/a.py:2: indented with a tab"),
        ("tools/a", "#!/usr/bin/env python3\nif x:\n\ty()\n", "tools/a:3: indented with a tab"),
    ],
)
def test_whitespace(tree, name, text, finding):
    tree.write(name, text)
    assert finding in tree.fails("whitespace")


def test_whitespace_leaves_other_files_alone(tree):
    (tree.root / "image.png").write_bytes(b"\x89PNG\0 \n \n")
    tree.write("Makefile", "all:\n\techo\n")
    tree.write("empty.txt", "")
    assert tree.check("whitespace")[0] == 0


def test_help_and_wrong_flags(tree):
    code, output = tree.check("--help")
    assert code == 0 and "examples:" in output and "layers" in output
    code, output = tree.check("layer")
    assert code == 2 and "unknown check 'layer'" in output


@pytest.fixture(scope="module")
def module():
    loader = importlib.machinery.SourceFileLoader("penstock_check", str(CHECK))
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader("penstock_check", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(made)
    return made


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("int F() {\n  if (x) {\n  }\n}\n", [("F", 1, 4)]),
        ("namespace a {\nclass B : public C<int()> {\n  int g() const { return 1; }\n};\n}\n", [("g", 3, 1)]),
        ("B::B(int x)\n    : a_(x), b_{x} {\n  Call();\n}\n", [("B::B", 1, 4)]),
        ("constexpr int kA[] = {\n  F(1),\n};\nauto f = [](int x) {\n  return x;\n};\n", []),
        ('void F() {\n  Call("}{", \'}\', R"(}})", 1\'000);  // }\n}\nvoid G() {}\n', [("F", 1, 3), ("G", 4, 1)]),
        ("#define X(a) { \\\n  a\nvoid F() {\n  auto g = [] {\n  };\n}\n", [("F", 3, 4)]),
        ("template <class T>\nstd::vector<T> F(T a = {},\n                 int b = 0) {\n}\n", [("F", 1, 4)]),
        ("enum class A { kB, kC };\nstruct D {\n  int e = 1;\n  F f{1};\n};\nTEST(A, B) {\n}\n", [("TEST", 6, 2)]),
        ("bool operator==(const A& a) {\n}\n", [("operator==", 1, 2)]),
    ],
)
def test_functions_are_found(module, text, wanted):
    assert list(module.functions(text)) == wanted
