"""`penstock tokenize` gives the ids of the Hugging Face `tokenizers` wheel, for the tokenizers of tools/peers/tokenizers.

Every id has to be the same: over texts that people write, texts made to be hard, texts drawn at random, and nearly
every code point; with and without the tokens around a text; at once and through the cache of texts that grow.
"""

import json
import random
import subprocess
from pathlib import Path

import pytest
from harness.process import find_binary
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["claude", "deepseek_v3", "gemini", "gemma3", "gpt35turbo", "gpt4o", "gptoss", "llama2", "llama3", "llama3_1",
         "qwen3"]

WRITTEN = [
    "", " ", "\n", "Hello, world!", "  two  spaces\n\n\n  x", "The quick brown fox jumps over the lazy dog.",
    "don't DON'T I'LL we've '\u017f 're 'Re \u2019s", "12345678 3.14159 \u00bd \u2177 1,000,000 0x1F \u0663\u0664\u0665\u0666",
    "int main() {\n\tfor (int i = 0; i < 10; ++i) {\r\n\t\tprintf(\"%d\\n\", i);\r\n\t}\n}\n",
    "def f(x):\n    return {'a': [x, *x]}  # comment\n\n\nclass A(B):\n        pass\n",
    "http://example.org/a/b?c=d&e=%20f#g //// a/b//c\n//\n",
    "HELLOworld HelloWorld camelCaseText XMLHttpRequest \u01c5\u02b0\u02b1 \u0130i",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3001\u6f22\u5b57\u3068\u30ab\u30ca\u3002\u3000\u5168\u89d2\uff21\uff11",
    "\u4e2d\u6587\u6587\u672c\uff0c\u6ca1\u6709\u7a7a\u683c\u3002123\u4e2a\u8bcd\u3002", "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4.", "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5", "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645 \u0640\u0640", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u092e\u0947\u0902 \u092a\u093e\u0920 \u0958", "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22\u0e44\u0e21\u0e48\u0e21\u0e35\u0e0a\u0e48\u0e2d\u0e07", "Ti\u1ebfng Vi\u1ec7t Tie\u0302\u0301ng Vie\u0323\u0302t", "\u00e9 e\u0301 \ufb01 \u212b \u1e9b\u0323 \u01c4 \u32ff",
    "emoji \U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f #\ufe0f\u20e3", "\U0001d4b3\U0001d4b4 \u2211\u222b\u2202 \u2192\u21d2",
    "\x00\x01\x1b[0m\x7f \u200b\ufeff\u180e\u2028\u2029\x85\xa0\u3000\u2003 \ufffd \ue000 \U000f0000",
    "    \t\t  \r\n \r\n\n\n   \t", "a" * 3000, "A" * 1000, " " * 1000, "\n" * 500, "\r\n" * 300, "!" * 700, "7" * 700, "\u6f22" * 500,
    "ab" * 1000, "\u0301" * 300, "\u2581" * 100, "\u2581a \u2581 a\u2581b",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<|im_start|>user\nhi<|im_end|>\n<think>\n</think>",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c><\uff5cUser\uff5c> hi \n<\uff5cAssistant\uff5c>  x", "<bos><start_of_turn>user\nhi<end_of_turn>\n", "<s> a </s>  b<unk>",
    "<|start|>system<|message|>x<|end|><|return|", "<0x41> <0x0A> <|im_start <|im_start|", "[multimodal] <unused7> <td></td>",
]

PIECES = list("abcXYZ \n\t\r'.,!0129/_-\"(){}<>|") + [
    "'s", "'LL", " the", " The", "ing", "\u00e9", "\u6f22", "\u304b", "\u00df", "\U0001f44d", "\u0301", "\u0323", "\u200d", "\u2581", "\u03a9", "\u01c5", "\u02b0", "\u0640",
    "\u00bd", "\u3000", "\xa0", "\x85", "\u0958", "\u1100", "\u1161", "\u11a8", "\u1161\u11a8", "\U00011935", "\U00011930", "\u0653", "\u0627", "  ", "\n\n",
]


# Beside other work on two cores the reference takes its time.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def folder() -> Path:
    made = subprocess.run([ROOT / "tools/peers/tokenizers"], check=True, capture_output=True, text=True)
    return Path(made.stdout.strip())


@pytest.fixture(scope="module", params=NAMES)
def pair(request, folder):
    path = folder / f"{request.param}.json"
    return path, Tokenizer.from_file(str(path))


def ours(path: Path, texts: list[tuple[str, bool]], *flags: str) -> list[list[int]]:
    lines = "".join(json.dumps({"text": text, "special": special}) + "\n" for text, special in texts)
    done = subprocess.run([find_binary(), "tokenize", "--tokenizer", path, "--lines", *flags], input=lines, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_same(path: Path, reference: Tokenizer, texts: list[tuple[str, bool]], *flags: str) -> None:
    for (text, special), ids in zip(texts, ours(path, texts, *flags), strict=True):
        want = reference.encode(text, add_special_tokens=special).ids
        if ids == want:
            continue
        at = next((i for i, (a, b) in enumerate(zip(ids, want)) if a != b), min(len(ids), len(want)))
        name = reference.id_to_token
        pytest.fail(f"{path.name}, {text[:200]!r} ({len(text)} characters): token {at} is "
                    f"{[(i, name(i)) for i in ids[at:at + 4]]}, not {[(i, name(i)) for i in want[at:at + 4]]}")


def added_tokens(reference: Tokenizer) -> list[str]:
    return [token.content for token in reference.get_added_tokens_decoder().values()][:80]


def drawn(reference: Tokenizer, seed: int, count: int, longest: int) -> list[str]:
    draw = random.Random(seed)
    pieces = PIECES + draw.sample(added_tokens(reference), min(8, len(added_tokens(reference))))
    return ["".join(draw.choice(pieces) for _ in range(draw.randrange(1, longest))) for _ in range(count)]


def test_written_texts(pair):
    path, reference = pair
    sources = [p.read_text() for p in sorted((ROOT / "docs").glob("*.md"))[:6]]
    sources += [(ROOT / "src/app/main.cc").read_text(), Path(__file__).read_text()]
    assert_same(path, reference, [(text, special) for text in WRITTEN + sources for special in (True, False)])


def test_drawn_texts(pair):
    path, reference = pair
    texts = drawn(reference, 1, 1200, 40) + drawn(reference, 2, 4, 6000)
    draw = random.Random(3)
    for _ in range(20):
        codes = (draw.choice([draw.randrange(0x80), draw.randrange(0xd800), draw.randrange(0xe000, 0x20000),
                              draw.randrange(0x110000)]) for _ in range(400))
        texts.append("".join(map(chr, codes)).encode(errors="ignore").decode())
    assert_same(path, reference, [(text, i % 2 == 0) for i, text in enumerate(texts)])


@pytest.mark.parametrize("pair", ["claude", "deepseek_v3", "gptoss", "llama3", "qwen3"], indirect=True)
def test_code_points(pair):
    path, reference = pair
    # Of the blocks of ideographs and syllables, and of the planes behind them, some.
    codes = [*range(0x3400), *range(0x3400, 0xa000, 37), *range(0xa000, 0xac00), *range(0xac00, 0xd7a4, 37),
             *range(0xd7a4, 0xd800), *range(0xe000, 0xf900, 37), *range(0xf900, 0x12000), *range(0x12000, 0x16000, 5),
             *range(0x16000, 0x17000), *range(0x17000, 0x1a000, 37), *range(0x1a000, 0x20000),
             *range(0x20000, 0x33480, 37), *range(0xe0000, 0xe0200)]
    texts = [f"a{chr(c)}b {chr(c)}1{chr(c)}'{chr(c)} A\n{chr(c)}\n" for c in codes]
    assert_same(path, reference, [("".join(texts[i:i + 64]), False) for i in range(0, len(texts), 64)])


def test_texts_that_grow(pair):
    path, reference = pair
    draw = random.Random(5)
    words = "the quick brown fox don't I'll HELLO 1234 \u65e5\u672c\u8a9e \u00e9 \U0001f44d if(x) {\n\n \t\t end. a/b \u0301 \u2581".split(" ")
    special = added_tokens(reference)
    turns = []
    for rate, separator in ((0, " "), (0.002, ""), (0.05, " ")):
        text = ""
        for _ in range(8):
            for _ in range(draw.randrange(10, 800)):
                text += draw.choice(special if draw.random() < rate else words) + separator
            turns.append((text, draw.random() < 0.5))
            if draw.random() < 0.3:
                text = text[:-draw.randrange(1, 60)]
    assert_same(path, reference, turns, "--cache", "16")
    assert ours(path, turns) == ours(path, turns, "--cache", "1")
