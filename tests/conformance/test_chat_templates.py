"""`penstock render` writes what Python's jinja2 writes: real templates, a table of snippets, and random expressions."""

import json
import os
import random
import subprocess
from pathlib import Path

import chat_oracle
import pytest
from chat_cases import CONVERSATIONS, LAYOUTS, VALUES, snippets

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("PENSTOCK_BIN", ROOT / "build/dev/bin/penstock")).resolve()
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", "1"))
RANDOM_EXPRESSIONS = 1000
# Errors of ours that Python does not have, by design.
NO_EQUAL_IN_PYTHON = ("is beyond the integers of 64 bits", "object cannot be printed", "more than 20000000 steps",
                      "is too large", "is beyond the floats")


def templates() -> dict[str, str]:
    done = subprocess.run([ROOT / "tools/peers/chat-templates"], stdout=subprocess.PIPE, text=True, check=True)
    folder = Path(done.stdout.strip())
    out = {path.stem: path.read_text(encoding="utf-8") for path in sorted((folder / "trl").glob("*.jinja"))}
    for path in sorted(folder.glob("npm/*.json")):
        template = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
        if isinstance(template, str):
            out["npm " + path.stem] = template
    return out


def batch(requests: list[dict]) -> list[dict]:
    lines = "".join(json.dumps({"now": chat_oracle.NOW, "prepare": False, **request}) + "\n" for request in requests)
    done = subprocess.run([BINARY, "render", "--batch"], input=lines, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.split("\n") if line]
    assert len(answers) == len(requests)
    return answers


def differences(requests: list[dict]) -> tuple[list[str], int]:
    """What differs, and how many texts are the same."""
    out, same = [], 0
    for request, got in zip(requests, batch(requests)):
        want, error = chat_oracle.render(request)
        if got.get("text") == want:
            same += want is not None
            continue
        if want is not None and any(text in got.get("error", "") for text in NO_EQUAL_IN_PYTHON):
            continue
        out.append(f"{request['template'][:300]!r}\n  ours   {got.get('text', got.get('error'))!r}\n"
                   f"  Python {want if want is not None else error!r}")
    return out, same


@pytest.fixture(scope="module")
def real_templates():
    return templates()


def test_real_templates_give_python_s_text(real_templates):
    assert len(real_templates) >= 60
    texts = 0
    for name, source in real_templates.items():
        requests = [{**conversation, "template": source, "special_tokens": TOKENS, "add_generation_prompt": prompt}
                    for conversation in CONVERSATIONS.values() for prompt in (False, True)]
        differ, same = differences(requests)
        assert not differ, f"{name}:\n" + "\n".join(differ[:5])
        assert same > 0, f"{name}: no conversation has a text"
        texts += same
    assert texts > 3000


def test_every_message_has_its_bytes(real_templates):
    """The spans are in order, apart from each other, and hold the message's content."""
    found = 0
    messages = [{"role": "user", "content": "first question"}, {"role": "assistant", "content": "first answer"},
                {"role": "user", "content": "second question"}]
    for name, source in real_templates.items():
        answer = batch([{"template": source, "messages": messages, "special_tokens": TOKENS}])[0]
        if "text" not in answer:
            continue
        text, end = answer["text"].encode(), 0
        for message, begin, until in answer["messages"]:
            assert end <= begin < until <= len(text), name
            content = messages[message]["content"].encode()
            assert content in text[begin:until] or content not in text, name
            end = until
            found += 1
    assert found > 100


@pytest.mark.parametrize("source", snippets() + LAYOUTS)
def test_snippet_is_python_s(source):
    differ, _ = differences([{"template": source, "messages": [], "chat_template_kwargs": VALUES}])
    assert not differ, "\n".join(differ)


class Expressions:
    """Random expressions over VALUES: mostly of types that fit, some of them not."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def pick(self, *choices):
        return self.random.choice(choices)

    def integer(self, depth: int) -> str:
        if depth <= 0:
            return self.pick("n", "neg", "zero", "3", "-2", "10", "t", "1")
        a, b = self.integer(depth - 1), self.any(depth - 1) if self.random.random() < 0.1 else self.integer(depth - 1)
        return self.pick(f"({a} + {b})", f"({a} - {b})", f"({a} * {b})", f"({a} // {b})", f"({a} % {b})", f"-{a}",
                         f"({self.text(depth - 1)} | length)", f"({self.list(depth - 1)} | length)",
                         f"({self.text(depth - 1)}).find({self.text(0)})", f"({self.text(depth - 1)} | int)",
                         f"({self.number(depth - 1)} | int)", f"({a} | abs)", f"({self.list(depth - 1)} | sum)",
                         f"({self.text(depth - 1)} | wordcount)", f"({self.text(depth - 1)}).count({self.text(0)})")

    def number(self, depth: int) -> str:
        if depth <= 0:
            return self.pick("f", "2.5", "-0.5", "1e3", "0.1", "n")
        a, b = self.number(depth - 1), self.number(depth - 1)
        return self.pick(f"({a} / {b})", f"({a} + {b})", f"({a} * {b})", f"({a} ** 2)", f"({a} % {b})", f"({a} // {b})",
                         f"({a} | round({self.pick(0, 1, 2, -1)}))", f"({a} | float)", self.integer(depth - 1),
                         f"({a} | round(1, '{self.pick('ceil', 'floor', 'common')}'))")

    def text(self, depth: int) -> str:
        if depth <= 0:
            return self.pick("s", "u", "ws", "e", "'o'", "'l'", "' '", "lines", "html", "'ab,cd'", "'%s'", "'Ä'")
        a, b, i = self.text(depth - 1), self.text(depth - 1), self.integer(0)
        method = self.pick("upper", "lower", "title", "capitalize", "strip", "lstrip", "rstrip", "swapcase")
        name = self.pick("upper", "lower", "title", "capitalize", "trim", "string", "escape", "safe", "tojson", "reverse",
                         "indent", "urlencode", "first", "last", "e")
        return self.pick(f"({a} + {b})", f"({a} ~ {self.any(depth - 1)})", f"({a}).{method}()", f"({a} | {name})",
                         f"({a})[{i}:]", f"({a})[:{i}]", f"({a})[{i}:{self.integer(0)}:{self.pick(-1, 2, 1, -3)}]",
                         f"({a}).replace({self.text(0)}, {b})", f"({self.list(depth - 1)} | join({self.text(0)}))",
                         f"({a} * {self.pick(0, 1, 2)})", f"({a})[{i}]", f"({a} if {self.any(depth - 1)} else {b})",
                         f"({a}).{self.pick('ljust', 'rjust', 'center', 'zfill')}({self.pick(3, 12)})",
                         f"({a} | default({b}))", f"({a} | truncate({self.pick(3, 5, 9)}))", f"('%s|%r' % ({a}, {b}))",
                         f"({a}).strip({self.text(0)})", f"({a} | replace({self.text(0)}, {self.text(0)}))",
                         f"'{{}}-{{!r:>8}}'.format({a}, {b})", f"({self.any(depth - 1)} | string)")

    def list(self, depth: int) -> str:
        if depth <= 0:
            return self.pick("l", "el", "words", "ll", "mixed", "people", "[1, 'a']", "range(4) | list", "(1, 2)")
        a = self.list(depth - 1)
        return self.pick(f"({a})[{self.integer(0)}:]", f"({a})[::{self.pick(-1, 2)}]", f"({a} + {self.list(depth - 1)})",
                         f"({a} | sort)", f"({a} | reverse | list)", f"({a} | unique | list)", f"({a} | list)",
                         f"({a} | map('{self.pick('string', 'upper', 'length', 'int')}') | list)",
                         f"({a} | select('{self.pick('string', 'number', 'odd', 'defined', 'none')}') | list)",
                         f"({a} | reject('{self.pick('string', 'mapping')}') | list)", f"({self.text(depth - 1)}).split()",
                         f"({self.text(depth - 1)}).split({self.text(0)})", f"[{self.any(depth - 1)}, {self.any(depth - 1)}]",
                         f"({a} | batch(2) | list)", f"({self.text(depth - 1)} | list)", f"(d | {self.pick('list', 'dictsort')})",
                         f"({self.text(depth - 1)}).splitlines()", f"({self.text(depth - 1)}).partition({self.text(0)})",
                         f"({self.text(depth - 1)}).rsplit({self.text(0)}, {self.pick(0, 1, -1)})", f"({a} | slice(2) | list)",
                         f"({a} * {self.pick(0, 2)})")

    def truth(self, depth: int) -> str:
        a, b = self.any(depth - 1), self.any(depth - 1)
        op = self.pick("==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or")
        test = self.pick("defined", "none", "string", "mapping", "iterable", "sequence", "number", "integer", "float",
                         "boolean", "odd", "lower", "upper", "true", "callable", "escaped")
        name = self.pick("startswith", "endswith")
        check = self.pick("isdigit", "isalpha", "isupper", "islower", "isspace", "istitle", "isalnum")
        return self.pick(f"({a} {op} {b})", f"({a} {op} {b})", f"({a} is {test})", f"({a} is not {test})", f"(not {a})",
                         f"({self.text(depth - 1)}).{name}({self.text(0)})", f"({self.text(depth - 1)}).{check}()",
                         f"({self.number(depth - 1)} {self.pick('<', '>', '==')} {self.number(depth - 1)})")

    def any(self, depth: int) -> str:
        if depth <= 0:
            return self.pick("none", "t", "fa", "n", "f", "s", "l", "d", "missing", "mixed", "{'a': 1}", "(1, 'x')")
        return self.pick(self.integer, self.number, self.text, self.list, self.truth, self.any)(depth)


def test_random_expressions_are_python_s():
    make = Expressions(SEED)
    requests = [{"template": "{{ " + make.any(make.pick(1, 2, 2, 3, 3, 4)) + " }}", "messages": [],
                 "chat_template_kwargs": VALUES} for _ in range(RANDOM_EXPRESSIONS)]
    differ, same = differences(requests)
    assert not differ, f"seed {SEED}: {len(differ)} of {len(requests)}:\n" + "\n".join(differ[:10])
    assert same > RANDOM_EXPRESSIONS / 3
