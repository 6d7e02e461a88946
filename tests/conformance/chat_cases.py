"""Conversations and snippets that templates are rendered with."""

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a <city> & \"more\" — 'now'",
    "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "Name, e.g. Zürich", "enum": ["Paris", "Zürich"]},
        "unit": {"type": ["string", "null"], "default": None},
        "days": {"type": "integer", "minimum": 1, "maximum": 14.5}}, "required": ["city"]},
    "return": {"type": "string", "description": "The weather."}}}
ADD = {"type": "function", "function": {
    "name": "add", "description": "", "parameters": {"type": "object", "properties": {
        "a": {"type": "number"}, "b": {"type": "array", "items": {"type": "number"}}}, "required": []}}}


def call(name="get_weather", arguments=None, id_="call_00001"):
    return {"id": id_, "type": "function", "function": {
        "name": name, "arguments": {"city": "Zürich", "days": 2, "deep": [1, 2.5, None, True, {"x": "<b>"}]}
        if arguments is None else arguments}}


SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello"}
ANSWER = {"role": "assistant", "content": "Hi! What can I do?"}
RESULT = {"role": "tool", "tool_call_id": "call_00001", "name": "get_weather", "content": "18 °C & sunny"}

CONVERSATIONS: dict[str, dict] = {
    "hello": {"messages": [HELLO]},
    "system": {"messages": [SYSTEM, HELLO]},
    "three turns": {"messages": [SYSTEM, HELLO, ANSWER, {"role": "user", "content": "Bye"}]},
    "ends with the assistant": {"messages": [HELLO, ANSWER]},
    "no messages": {"messages": []},
    "system alone": {"messages": [SYSTEM]},
    "starts with the assistant": {"messages": [ANSWER, HELLO]},
    "empty content": {"messages": [{"role": "user", "content": ""}, {"role": "assistant", "content": ""},
                                   {"role": "user", "content": " "}]},
    "content is None": {"messages": [HELLO, {"role": "assistant", "content": None}, HELLO]},
    "no content": {"messages": [HELLO, {"role": "assistant"}, HELLO]},
    "two users": {"messages": [HELLO, HELLO]},
    "unicode": {"messages": [{"role": "user", "content": "Ça va? 你好 👋🏽 \u00a0\u2028 e\u0301 ß İ Σ"},
                             {"role": "assistant", "content": "日本語\t\"x\"\\ \u200b"}, HELLO]},
    "html": {"messages": [{"role": "user", "content": "<b>&amp; \"it's\" {{ x }} {% y %} <|im_end|>"}]},
    "white space": {"messages": [{"role": "system", "content": "\n  in \n"},
                                 {"role": "user", "content": "\r\n  a\n\n b \t"},
                                 {"role": "assistant", "content": "\n\n c "}, {"role": "user", "content": "d\n"}]},
    "parts": {"messages": [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
                           {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
                           {"role": "assistant", "content": [{"type": "text", "text": "ok"}]}, HELLO]},
    "image": {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"},
                                                        {"type": "image_url", "image_url": {"url": "x"}}]}]},
    "video and audio": {"messages": [{"role": "user", "content": [{"type": "video"}, {"type": "audio"}]}]},
    "tools": {"messages": [SYSTEM, HELLO], "tools": [WEATHER, ADD]},
    "tools, no system": {"messages": [HELLO], "tools": [WEATHER]},
    "no tools": {"messages": [HELLO], "tools": []},
    "tool call": {"messages": [HELLO, {"role": "assistant", "content": "", "tool_calls": [call()]}, RESULT],
                  "tools": [WEATHER]},
    "tool call with text": {"messages": [SYSTEM, HELLO, {"role": "assistant", "content": "Let me see.",
                                                         "tool_calls": [call()]}, RESULT, ANSWER, HELLO],
                            "tools": [WEATHER, ADD]},
    "tool call, content None": {"messages": [HELLO, {"role": "assistant", "content": None, "tool_calls": [call()]},
                                             RESULT, ANSWER], "tools": [WEATHER]},
    "two tool calls": {"messages": [HELLO, {"role": "assistant", "content": "", "tool_calls": [
        call(), call("add", {"a": 1, "b": [2.0, 1e22, -0.0]}, "call_00002")]}, RESULT,
        {"role": "tool", "tool_call_id": "call_00002", "name": "add", "content": "3"}], "tools": [WEATHER, ADD]},
    "tool calls, no tools": {"messages": [HELLO, {"role": "assistant", "content": "", "tool_calls": [call("add", {})]},
                                          RESULT, HELLO]},
    "arguments as text": {"messages": [HELLO, {"role": "assistant", "content": "", "tool_calls": [
        call(arguments="{\"city\": \"Paris\"}")]}, RESULT], "tools": [WEATHER]},
    "short id": {"messages": [HELLO, {"role": "assistant", "content": "", "tool_calls": [call(id_="123456789")]},
                              {**RESULT, "tool_call_id": "123456789"}], "tools": [WEATHER]},
    "function alone": {"messages": [HELLO, {"role": "assistant", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]},
                                    RESULT], "tools": [ADD["function"]]},
    "reasoning": {"messages": [HELLO, {"role": "assistant", "content": "4", "reasoning_content": "\n2 and 2\n"}, HELLO]},
    "reasoning field": {"messages": [HELLO, {"role": "assistant", "content": "4", "reasoning": "2 and 2",
                                             "thinking": "so", "reasoning_content": "2 and 2"}]},
    "thoughts in the text": {"messages": [HELLO, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}, HELLO,
                                          {"role": "assistant", "content": "a</think>b</think>c"}]},
    "reasoning and tools": {"messages": [HELLO, {"role": "assistant", "content": "", "reasoning_content": "hm",
                                                 "tool_calls": [call()]}, RESULT], "tools": [WEATHER]},
    "developer": {"messages": [{"role": "developer", "content": "Be brief."}, HELLO]},
    "other role": {"messages": [{"role": "critic", "content": "no"}, HELLO]},
    "name": {"messages": [{"role": "user", "name": "ann", "content": "Hi"}]},
    "thinking off": {"messages": [SYSTEM, HELLO], "chat_template_kwargs": {"enable_thinking": False, "thinking": False}},
    "thinking on": {"messages": [HELLO], "chat_template_kwargs": {"enable_thinking": True, "thinking": True,
                                                                  "reasoning_effort": "high"}},
    "more variables": {"messages": [HELLO], "chat_template_kwargs": {
        "model_identity": "I am a test.", "builtin_tools": ["browser", "python"], "date_string": "1 May",
        "custom_tools": [WEATHER], "tools_in_user_message": False, "add_vision_id": True, "preserve_thinking": True,
        "clear_thinking": False, "keep_past_thinking": True, "truncate_history_thinking": False}},
    "documents": {"messages": [HELLO], "documents": [{"title": "T", "text": "x"}, {"title": "U", "text": "y\nz"}]},
}

VALUES = {
    "n": 7, "zero": 0, "neg": -7, "f": 2.5, "big": 9007199254740993, "none": None, "t": True, "fa": False,
    "s": "Hello World", "e": "", "u": "Straße ÀÉ 你好 ǆ", "ws": " \t a  b \n", "l": [3, 1, 2], "el": [], "ed": {},
    "ll": [[1, 2], [3], []], "d": {"b": 1, "a": 2, "items": 3}, "mixed": [1, "a", None, 2.0, True, {"k": [1]}],
    "people": [{"name": "Bob", "age": 30, "tags": ["x", "y"]}, {"name": "alice", "age": 25, "tags": []},
               {"name": "Carl", "age": 30}], "words": ["b", "A", "c", "a", "B"], "lines": "one\n two\n\nthree\r\nfour",
    "html": "<a href=\"x\">it's & more</a>",
}

# Each is one template over VALUES.
SNIPPETS = r"""
{{ n }} {{ f }} {{ none }} {{ t }} {{ s }} {{ l }} {{ d }} {{ mixed }} {{ missing }} {{ big }} {{ ed }} {{ el }} {{ (1,) }} {{ () }}
{{ 1, 2 }}
{{ missing.x }}
{{ missing + 1 }}
{{ d.missing }}|{{ d.missing is defined }}|{{ d['missing'] is undefined }}|{{ l[9] is defined }}|{{ d.a.b.c is defined }}
{{ d.items() }} {{ d.keys() }} {{ d.values() }} {{ d.get('a') }} {{ d.get('z') }} {{ d.get('z', 5) }} {{ d['items'] }}
{{ d.items() | list }} {{ d | items | list }} {{ d | list }} {{ d | length }} {{ d.copy() }}
{{ l.append(4) }}
{{ l.append }}
{{ d.update({}) }}
{{ d.pop('a') }}
{{ l.index(2) }} {{ l.count(1) }} {{ (1, 2, 1).count(1) }} {{ l.copy() }}
{{ l.index(9) }}
{{ s.__class__ }}
{{ s.__class__.__mro__ }}
{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[:-1] }} {{ l[::-1] }} {{ l[::2] }} {{ l[5:] }} {{ l[-100:100] }} {{ s[1:4] }} {{ s[::-1] }} {{ s[-3:] }} {{ u[1:8:2] }} {{ u[-1] }} {{ s[100] is defined }} {{ l.0 }} {{ ll[0][1] }} {{ (1, 2, 3)[1:] }} {{ range(10)[2:8:3] }}
{{ l[::0] }}
{{ n[1:] }}
{{ d[1:] }}
{{ n / 2 }} {{ 6 / 2 }} {{ n // 2 }} {{ neg // 2 }} {{ neg % 3 }} {{ n % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1e300 * 10 }} {{ 10 % 3.5 }} {{ t + t }} {{ -t }} {{ +t }} {{ 0.1 + 0.2 }} {{ 1 - 1.0 }} {{ 3 * 'ab' }} {{ 'ab' * 0 }} {{ [1] * 3 }} {{ (1,) * 2 }} {{ l + [4] }} {{ (1,) + (2,) }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ 1.5 % 0 }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + (2,) }}
{{ none + 1 }}
{{ l - l }}
{{ 1e16 }} {{ 1e15 }} {{ 123456789012345.6 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1.0 }} {{ 1e22 }} {{ 1.5e300 }} {{ 5e-324 }} {{ 3.14159 }} {{ -0.0 }} {{ 100.0 }} {{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_0.5 }} {{ 2.0e3 }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ t == 1 }} {{ 'a' < 'b' }} {{ 'a' == 'a' }} {{ [1, 2] < [1, 3] }} {{ [1] == (1,) }} {{ d == {'a': 2, 'b': 1, 'items': 3} }} {{ none == none }} {{ missing == missing2 }} {{ missing == none }} {{ 1 != 2 }} {{ 'Z' < 'a' }} {{ (1, 'a') <= (1, 'b') }} {{ 2 >= 2.0 }}
{{ 1 < 'a' }}
{{ none < 1 }}
{{ missing < 1 }}
{{ 1 in l }} {{ 9 not in l }} {{ 'ell' in s }} {{ 'a' in d }} {{ 'x' in missing }} {{ '' in e }} {{ 2 in range(3) }} {{ (1, 2) in [(1, 2)] }} {{ 'a' in d.keys() }} {{ 1.0 in l }}
{{ 1 in s }}
{{ 1 in n }}
{{ [] in d }}
{{ not t }} {{ not e }} {{ t and s }} {{ e or 'x' }} {{ e and s }} {{ none or 0 or [] }} {{ not missing }} {{ 'a' if t else 'b' }} {{ 'a' if fa }} {{ ('a' if fa) is defined }} {{ 1 if fa else 2 if fa else 3 }}
{{ 'a' ~ 1 ~ none ~ missing ~ 1.0 ~ [1, 'x'] }} {{ 1 ~ 2 + 3 }}
{{ 'a' 'b' "c" }} {{ '\n\t\\\'\"\x41\u00e9\101\q' }} {{ "it's" }} {{ ['it\'s', "\"", 'both \' "', '\n\x07\u200b\x7f', 'é'] }}
{{ {'a': 1, 'b': [1, 2], 3: none, 1.5: t, none: 1, (1, 2): 2} }} {{ {'a': 1, 'a': 2} }} {{ {1: 'a', true: 'b'} }}
{{ {[]: 1} }}
{{ s.upper() }} {{ s.lower() }} {{ u.upper() }} {{ u.lower() }} {{ u.title() }} {{ u.capitalize() }} {{ u.swapcase() }} {{ 'ΑΣ ΑΣΑ Σ'.lower() }} {{ 'ǆ ŉ ﬁ'.title() }} {{ 'ǆ ŉ ﬁ'.upper() }} {{ "they're bill's".title() }}
[{{ ws.strip() }}] [{{ ws.lstrip() }}] [{{ ws.rstrip() }}] [{{ 'xxaxx'.strip('x') }}] [{{ 'abcab'.lstrip('ba') }}] [{{ 'abcab'.rstrip('ab') }}] [{{ '\u3000a\u00a0'.strip() }}] [{{ 'éaé'.strip('é') }}] [{{ 'a'.strip(none) }}]
{{ ws.split() }} {{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ' a  b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'aXXbXXc'.split('XX') }} {{ 'a b'.split(maxsplit=1) }} {{ 'a,b'.split(sep=',') }} {{ ' a b '.split(' ') }} {{ 'abc'.rsplit('b') }}
{{ s.split('') }}
{{ lines.splitlines() }} {{ lines.splitlines(true) }} {{ 'a\u2028b\x0bc\x85'.splitlines() }} {{ ''.splitlines() }} {{ '\n'.splitlines() }}
{{ s.startswith('Hello') }} {{ s.startswith(('x', 'H')) }} {{ s.endswith('ld') }} {{ s.endswith(()) }} {{ s.startswith('lo', 3) }} {{ s.startswith('lo', 3, 4) }} {{ s.startswith('') }} {{ s.startswith('', 99) }} {{ s.endswith('lo', 0, 5) }}
{{ s.startswith(missing) }}
{{ s.startswith(['H']) }}
{{ s.replace('l', 'L') }} {{ s.replace('l', 'L', 1) }} {{ 'abc'.replace('', '-') }} {{ 'aaa'.replace('aa', 'b') }} {{ s.replace('o', '', 5) }} {{ 'aé'.replace('', '.', 2) }} {{ ''.replace('', 'x') }}
{{ s.replace(1, 'x') }}
{{ s.find('o') }} {{ s.find('z') }} {{ s.rfind('o') }} {{ s.index('W') }} {{ s.count('l') }} {{ u.find('你') }} {{ s.find('o', 5) }} {{ s.find('o', 5, 6) }} {{ s.count('') }} {{ s.rindex('l') }} {{ 'aaaa'.count('aa') }} {{ s.rfind('') }} {{ s.find('', 3) }} {{ s.find('o', -4) }}
{{ s.index('z') }}
{{ ', '.join(['a', 'b']) }} {{ ''.join(d) }} {{ '-'.join('abc') }}
{{ ', '.join([1]) }}
{{ s.removeprefix('Hello ') }} {{ s.removesuffix('World') }} {{ s.removeprefix('x') }} {{ s.partition(' ') }} {{ s.rpartition('o') }} {{ s.partition('z') }} {{ s.rpartition('z') }}
{{ 'a'.isalpha() }} {{ '1'.isdigit() }} {{ '²'.isdigit() }} {{ '²'.isdecimal() }} {{ '½'.isnumeric() }} {{ 'a1'.isalnum() }} {{ ''.isalpha() }} {{ 'ABC'.isupper() }} {{ 'aB1'.islower() }} {{ 'ab1'.islower() }} {{ ' \t'.isspace() }} {{ 'Hello World'.istitle() }} {{ 'a_1'.isidentifier() }} {{ 'é'.isascii() }} {{ 'a\n'.isprintable() }} {{ '1'.isupper() }} {{ '你'.isalpha() }}
[{{ 'ab'.center(7) }}] [{{ 'ab'.center(5, '*') }}] [{{ 'abc'.center(6, '*') }}] [{{ 'ab'.ljust(4, '.') }}] [{{ 'ab'.rjust(4) }}] {{ '5'.zfill(3) }} {{ '-5'.zfill(4) }} {{ '+5'.zfill(1) }} [{{ 'a\tb'.expandtabs(4) }}] {{ 'é'.zfill(3) }}
{{ '{} {}'.format(1, 'a') }} {{ '{1}{0}{1}'.format('a', 'b') }} {{ '{x}'.format(x=n) }} {{ '{{}}'.format() }} {{ '{:>5}|{:<5}|{:^5}|{:*^6}'.format('a', 'b', 'c', 'd') }} {{ '{:05d} {:+d} {:x} {:X} {:b} {:o} {:#x} {:,}'.format(42, 42, 255, 255, 5, 8, 255, 1234567) }} {{ '{:.2f} {:8.3f} {:e} {:g} {:%} {:.1%}'.format(3.14159, 2.5, 12345.678, 0.0001, 0.5, 0.256) }} {{ '{!r} {!s}'.format('a', 'b') }} {{ '{0[a]} {0[b]}'.format(d) }} {{ '{0[1]}'.format(l) }} {{ '{:{}}|'.format('a', 4) }} {{ '{}'.format(none) }} {{ '{:.3}'.format('abcdef') }} {{ '{:10}|{:10}|'.format(5, 'a') }} {{ '{}'.format(missing) }}
{{ '{}'.format() }}
{{ '{'.format(1) }}
{{ '}'.format(1) }}
{{ '{:d}'.format('a') }}
{{ '{a}'.format() }}
{{ '%s %d %r' % ('a', 5, 'b') }} {{ '%5.2f|%-5s|%05d|%+d|%x|%X|%o|%e|%g|%%' % (3.14159, 'a', 42, 7, 255, 255, 8, 12345.678, 0.0001) }} {{ '%s' % none }} {{ '%s' % [1] }} {{ '%(a)s-%(b)s' % d }} {{ '%c%c' % ('a', 98) }} {{ '%.2s|' % 'abc' }} {{ '%*d' % (5, 3) }} {{ '%d' % 3.7 }} {{ '%i' % t }} {{ 'a' % () }} {{ '%#x %#o' % (255, 8) }} {{ '%5s|' % 'é' }}
{{ '%d' % 'a' }}
{{ '%s %s' % 'a' }}
{{ 'a' % 1 }}
{{ '%z' % 1 }}
{{ '%s' % missing }}
{{ missing | default('x') }} {{ none | default('x') }} {{ none | default('x', true) }} {{ e | default('y', boolean=true) }} {{ missing | d }} {{ 0 | d(5, true) }} {{ missing.x | default('z') }}
{{ l | length }} {{ s | length }} {{ u | length }} {{ d | count }} {{ missing | length }} {{ range(5) | length }}
{{ n | length }}
{{ none | length }}
{{ l | join }} {{ l | join(', ') }} {{ l | join(d='-') }} {{ people | join(', ', attribute='name') }} {{ mixed | join('|') }} {{ s | join('.') }} {{ d | join(',') }} {{ missing | join }} {{ l | join(1) }}
{{ l | first }} {{ l | last }} {{ s | first }} {{ el | first }} {{ (el | first) is defined }} {{ d | first }} {{ d | last }} {{ range(4) | last }} {{ missing | first }} {{ u | last }}
[{{ ws | trim }}] [{{ 'xax' | trim('x') }}] [{{ n | trim }}] {{ s | upper }} {{ s | lower }} {{ n | upper }} {{ 'hello wORLD-foo (bar) [x]<y' | title }} {{ 'hELLO' | capitalize }} {{ missing | upper }}|{{ none | lower }} {{ "it's o'neil" | title }}
{{ s | replace('l', 'L') }} {{ s | replace('l', 'L', 1) }} {{ n | replace(7, 8) }} {{ s | replace('o', none) }}
{{ l | string }} {{ n | string }} {{ none | string }} {{ '5' | int }} {{ '5.7' | int }} {{ 'x' | int }} {{ 'x' | int(3) }} {{ ' 42 ' | int }} {{ '1_000' | int }} {{ '0x1f' | int(0, 16) }} {{ '1f' | int(base=16) }} {{ 3.9 | int }} {{ -3.9 | int }} {{ t | int }} {{ none | int }} {{ l | int }} {{ '1e3' | int }} {{ 'inf' | int }} {{ '-7' | int }} {{ '٣' | int }} {{ '' | int }} {{ '0b11' | int(0, 2) }} {{ '11' | int(base=2) }}
{{ missing | int }}
{{ '2.5' | float }} {{ 'x' | float }} {{ 3 | float }} {{ '1e3' | float }} {{ ' inf ' | float }} {{ 'nan' | float }} {{ '1_0.5' | float }} {{ none | float(1.5) }} {{ '-.5' | float }} {{ '5.' | float }}
{{ 2.5 | round }} {{ 3.5 | round }} {{ 2.675 | round(2) }} {{ 2.3 | round(0, 'ceil') }} {{ 2.7 | round(method='floor') }} {{ 5 | round }} {{ 1234 | round(-2) }} {{ 1250 | round(-2) }} {{ 1350 | round(-2) }} {{ 0.5 | round }} {{ -2.5 | round }} {{ 2.345 | round(1, 'floor') }} {{ t | round }} {{ 1234.5 | round(-2) }} {{ 7 | round(1, 'ceil') }}
{{ s | round }}
{{ -5 | abs }} {{ 2.5 | abs }} {{ neg | abs }} {{ t | abs }} {{ -1.5 | abs }}
{{ l | sort }} {{ words | sort }} {{ words | sort(case_sensitive=true) }} {{ l | sort(reverse=true) }} {{ people | sort(attribute='name') | map(attribute='name') | list }} {{ people | sort(attribute='age,name') | map(attribute='name') | join(',') }} {{ d | sort }} {{ s | sort | join }} {{ people | sort(attribute='age', reverse=true) | map(attribute='name') | list }}
{{ mixed | sort }}
{{ l | reverse | list }} {{ s | reverse }} {{ range(3) | reverse | list }} {{ d | reverse | list }} {{ (l | reverse) is iterable }}
{{ words | unique | list }} {{ words | unique(case_sensitive=true) | list }} {{ people | unique(attribute='age') | map(attribute='name') | list }} {{ [1, 1.0, true, 2] | unique | list }}
{{ l | sum }} {{ people | sum(attribute='age') }} {{ l | sum(start=10) }} {{ el | sum }} {{ ll | sum(start=[]) }} {{ [0.5, 1] | sum }}
{{ words | sum }}
{{ l | min }} {{ l | max }} {{ words | min }} {{ words | max(case_sensitive=true) }} {{ (people | max(attribute='age')).name }} {{ el | min }} {{ (el | max) is defined }} {{ people | map(attribute='age') | min }}
{{ people | map(attribute='name') | list }} {{ people | map(attribute='tags.0') | list }} {{ people | map(attribute='tags', default='none') | list }} {{ words | map('upper') | list }} {{ l | map('string') | join }} {{ ['1', '2'] | map('int') | sum }} {{ words | map('replace', 'a', 'z') | list }} {{ missing | map('upper') | list }} {{ words | map('default', 'x') | list }} {{ ll | map('length') | list }} {{ ll | map('first') | list }}
{{ words | map('nosuch') | list }}
{{ words | map | list }}
{{ mixed | select | list }} {{ l | select('odd') | list }} {{ l | reject('odd') | list }} {{ l | select('gt', 1) | list }} {{ mixed | select('string') | list }} {{ people | selectattr('tags') | map(attribute='name') | list }} {{ people | selectattr('age', 'equalto', 30) | map(attribute='name') | list }} {{ people | rejectattr('tags', 'defined') | map(attribute='name') | list }} {{ people | selectattr('name', 'in', ['Bob']) | list | length }} {{ mixed | select('none') | list }} {{ mixed | reject('none') | list }} {{ mixed | select('mapping') | list }} {{ people | selectattr('tags', 'undefined') | map(attribute='name') | list }}
{{ l | select('nosuch') | list }}
{{ d | dictsort }} {{ d | dictsort(reverse=true) }} {{ d | dictsort(by='value') }} {{ {'b': 1, 'A': 2} | dictsort }} {{ {'b': 1, 'A': 2} | dictsort(true) }}
{{ l | dictsort }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }} {{ [1, 2, 3] | batch(2, 'x') | list }} {{ [1, 2, 3, 4, 5] | slice(3) | list }} {{ [1, 2, 3, 4] | slice(3, 'x') | list }}
{% for g in people | groupby('age') %}{{ g.grouper }}={{ g.list | map(attribute='name') | join('+') }};{% endfor %}{% for k, v in people | groupby('name', case_sensitive=true) %}{{ k }},{{ v | length }} {% endfor %}{{ words | map('upper') | groupby(0) | list }}
{{ people | groupby('tags', default='') | length }}
{{ lines | indent }} {{ lines | indent(2, true) }} {{ lines | indent('> ', blank=true) }} {{ 'a\n\nb' | indent(1) }} {{ '' | indent(first=true) }}|
{{ n | indent }}
{{ html | escape }} {{ html | e | e }} {{ html | safe }} {{ html | forceescape }} {{ (html | safe) + '<' }} {{ '<' + (html | safe) }} {{ (html | safe) ~ '<' }} {{ ('<' | escape) is escaped }} {{ [html | safe] }} {{ ('a<' | escape).upper() }} {{ ('<' | safe) * 2 }} {{ ('%s' | safe) % '<' }} {{ ('{}' | safe).format('<') }} {{ ('<' | safe).join(['<', 'a']) }} {{ (html | safe).replace('<', '>') }}
{{ s | truncate(8) }} {{ s | truncate(8, true) }} {{ s | truncate(8, leeway=0) }} {{ 'Hello wide world out there' | truncate(12) }} {{ 'Hello wide world out there' | truncate(12, end='~', killwords=true) }}
{{ s | wordcount }} {{ 'a-b c_d é' | wordcount }} {{ '%s and %s' | format('a', 'b') }} {{ '%(x)s' | format(x=1) }} {{ 'a b/c?é&' | urlencode }} {{ {'a b': 'c&d', 'e': 1} | urlencode }} [{{ 'ab' | center(6) }}]
{{ mixed | tojson }} {{ d | tojson(indent=2) }} {{ people | tojson(indent=4) }} {{ u | tojson }} {{ u | tojson(ensure_ascii=true) }} {{ d | tojson(sort_keys=true) }} {{ d | tojson(separators=(',', ':')) }} {{ html | tojson }} {{ '\x00\x1f\x7f\u2028\n"\\/' | tojson }} {{ [1.0, 1e22, 1e-7, -0.0] | tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }} {{ el | tojson(indent=2) }} {{ [[], {}, [1]] | tojson(indent=1) }} {{ d | tojson(indent='--') }} {{ (1, 2) | tojson }} {{ d | tojson(indent=0) }} {{ '👋' | tojson(ensure_ascii=true) }} {{ d | tojson(indent=2, separators=(', ', ' : ')) }}
{{ missing | tojson }}
{{ d.items() | tojson }}
{{ {(1, 2): 3} | tojson }}
{{ l | map('string') | tojson }}
{{ d | attr('a') }} {{ (d | attr('a')) is defined }} {{ ('x' | attr('upper'))() }}
{{ l | nosuch }}
{{ l is nosuch }}
{% if fa %}{{ l | nosuch }}{% endif %}ok
{{ n is odd }} {{ n is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(2) }} {{ missing is defined }} {{ none is none }} {{ s is string }} {{ d is mapping }} {{ l is iterable }} {{ s is iterable }} {{ n is iterable }} {{ d is sequence }} {{ n is sequence }} {{ missing is sequence }} {{ missing is iterable }} {{ n is number }} {{ t is number }} {{ t is integer }} {{ n is integer }} {{ f is float }} {{ t is boolean }} {{ t is true }} {{ 1 is true }} {{ fa is false }} {{ 'a' is lower }} {{ 'A' is upper }} {{ n is eq 7 }} {{ n is equalto(7) }} {{ n is ne 7 }} {{ n is gt 5 }} {{ n is lt(5) }} {{ n is ge 7 }} {{ n is le 7 }} {{ 1 is in [1] }} {{ 1 is in(l) }} {{ none is sameas none }} {{ t is sameas true }} {{ 1 is sameas true }} {{ range is callable }} {{ n is callable }} {{ 'upper' is filter }} {{ 'odd' is test }} {{ n is not odd }} {{ not n is odd }} {{ d.items() is iterable }} {{ d.items() is sequence }} {{ n is odd and t }} {{ missing is callable }} {{ n is == 7 }}
{{ n is > 5 }}
{{ s is odd }}
{{ missing is odd }}
{{ 1 is odd is true }}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 1) }}{{ loop.depth }}{{ x }};{% endfor %}
{% for x in el %}{{ x }}{% else %}none{% endfor %}{% for x in missing %}{{ x }}{% else %}none{% endfor %}
{% for x in n %}{% endfor %}
{% for x in none %}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }}{{ ',' if not loop.last }}{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for a, b in [(1, 2), [3, 4]] %}{{ a + b }}{% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}no{% endfor %}{% for x in l if x > 5 %}{{ x }}{% else %}no{% endfor %}{% for x in l if x is odd %}{{ x }}{% endfor %}
{% for x in range(10) %}{% if x == 3 %}{% continue %}{% endif %}{% if x == 6 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in l %}{% for y in l %}{{ loop.index }}{% if y == 1 %}{% break %}{% endif %}{% endfor %}{{ loop.index }}{% endfor %}
{% break %}
{% for x in s %}{{ x }}.{% endfor %}{% for x in u %}{{ x }}.{% endfor %}{% for x in range(3, 0, -1) %}{{ x }}{% endfor %}
{% set x = 0 %}{% for i in l %}{{ x }}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(x=0, items=[]) %}{% for i in l %}{% set ns.x = ns.x + i %}{% set ns.items = ns.items + [i] %}{% endfor %}{{ ns.x }}{{ ns.items }}{{ ns.y is defined }}{{ ns['x'] }}{{ ns }}
{% set d.x = 1 %}
{% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{% set ns.c = 3 %}{{ ns.c }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t2 = 1, 2 %}{{ t2 }}{% set (a, b) = [3, 4] %}{{ a }}{{ b }}
{% set a, b = 1 %}
{% set x %} hi {{ n }} {% endset %}[{{ x }}]{% set x | upper | trim %} hi {% endset %}[{{ x }}]{% set y %}{% set inner = 1 %}{% endset %}{{ inner is defined }}
{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}{% if e %}a{% elif el %}b{% else %}c{% endif %}{% if missing %}x{% endif %}{% if t %}{% set z = 1 %}{% endif %}{{ z }}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}{% with n = n + 1 %}{{ n }}{% endwith %}{{ n }}
{% macro m(a, b=2, c=a) %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c=5) }} {{ m(b=1, a=2) }} {{ m() }} {{ m.name }} {{ m.arguments }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=2) }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }} {{ m() }}
{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}hi{{ n }}{% endcall %}{% macro w(a) %}{{ caller(a, 2) }}{% endmacro %}{% call(x, y=5) w(1) %}{{ x }}{{ y }}{% endcall %}
{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}
{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}{% for x in [9] %}{{ m() }}{% endfor %}
{% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * fact(n - 1) | int }}{% endif %}{% endmacro %}{{ fact(6) }}
{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}
{% macro a() %}{% set x = 5 %}{{ x }}{% endmacro %}{{ a() }}{{ x is defined }}{{ a() | length }}{{ a() + 'z' }}
{% filter upper %}abc {{ s }}{% endfilter %}{% filter replace('a', 'b') | trim %} aaa {% endfilter %}
{% raw %}{{ x }} {% if %}{% endraw %}|{% raw -%}  a  {%- endraw %}|
a {#- comment -#} b {# c #} d {{- 1 -}} e {%- if t -%} f {%- endif -%} g
{% generation %}hi {{ n }}{% endgeneration %}{% for x in l %}{% generation %}{{ x }}{{ loop.index }}{% endgeneration %}{% endfor %}
{{ range(5) | list }} {{ range(2, 8, 3) | list }} {{ range(0) | list }} {{ range(5, 0) | list }} {{ range(3) }} {{ range(1, 9, 2) }} {{ range(3)[1] }} {{ range(10) | sum }} {{ range(-3) | list }}
{{ range(1000000) | length }}
{{ range(1, 2, 0) }}
{{ range('a') }}
{{ dict(a=1, b=2) }} {{ dict({'x': 1}, y=2) }} {{ dict([('a', 1), ['b', 2]]) }} {{ dict() }}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}{% set j = joiner('; ') %}{{ j() }}{{ j() }}{{ j() }}
{{ raise_exception('no ' ~ n) }}
{{ strftime_now('%d %b %Y %H:%M:%S %A %B %j %y %p %% %f%z') }}|{{ strftime_now('') }}|
{{ s() }}
{{ missing() }}
{{ n.x }} {{ n.real }} {{ f.is_integer() }} {{ (5).bit_length() }} {{ 2.0.is_integer() }}
{{ [1, 2,] }} {{ (1, 2,) }} {{ {'a': 1,} }} {{ dict(a=1,) }} {{ m is defined }}
{{ 'x' if n is defined else 'y' }} {{ n if n is odd else 0 }} {{ (n if t) }} {{ [x for x in l] }}
{{ 1 +
{{ (1 }}
{{ 1) }}
{{ }}
{% if %}{% endif %}
{% if t %}
{% endif %}
{% for x in l %}{% endif %}
{% nosuch %}
{% include 'x' %}
{% set true = 1 %}
{% set 5 = 1 %}
{{ 'abc }}
{# abc
{% raw %} abc
{{ a.b.c }}
{{ l | length + 1 }} {{ -l | length }} {{ - n }} {{ not not n }} {{ (l | length) * 2 }} {{ 'a' ~ l | length }} {{ n == 7 and l | length == 3 }} {{ 5 in l | map('int') | list }} {{ -n | abs }} {{ n.__str__ is defined }}
{{ s.format(1) }} {{ 'a'.upper().lower() }} {{ s.split(' ')[0][1:].upper() }} {{ s.split(' ') | last | first }} {{ ('a', 'b') | join }} {{ ([1, 2] | first) + 1 }} {{ {'a': {'b': 1}}.a.b }} {{ 'ab'[0] }} {{ [[1, 2], [3]][0][1] }}
{{ m(*[1, 2], **{'a': 1}) }}
{% macro m(a, b, c=0) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[1, 2], **{'c': 3}) }} {{ m(1, *[2]) }} {{ m(*'ab') }} {{ dict(**d) }}
{% set x = d.copy() %}{{ x }} {{ d | string | length }} {{ (d | string)[0] }} {{ l | tojson | length }} {{ {'a': none} | tojson }} {{ none is none and true }}
{% for m in people %}{%- set name = m.name %}{% if loop.first %}F{% endif %}{{ name | upper ~ '!' }}{% if not loop.last %}, {% endif %}{% endfor %}
{% for a in [1, 2] %}{% for b in [3, 4] %}{{ a }}{{ b }}{{ loop.index }}{{ loop.first }} {% endfor %}{{ loop.index }}{% endfor %}
{% print n, s %} {% print 5 %}
{% if t: %}a{% endif %}{% for x in l: %}{{ x }}{% endfor %}
{{ "%.3f" % 2 }} {{ '%s' % (d,) }} {{ '%r' % 1.0 }} {{ '%s%%' % 5 }} {{ '%-8s|%8s|' % ('ab', 'cd') }} {{ '%03d' % -5 }} {{ '% d' % 5 }} {{ '%.10g' % 1234567.891 }} {{ '%G' % 1e-10 }} {{ '%E' % 12.5 }}
"""


def snippets() -> list[str]:
    # What stands on one line is one template; a line end of its own is written \n.
    return [line for line in SNIPPETS.strip().split("\n") if line]


# With line ends of their own.
LAYOUTS = [
    "{% if t %}\n  a\n{% endif %}\nb\n", "  {% if t %}a{% endif %}\n", "x  {% if t %}a{% endif %}\n", "{%+ if t %}a{% endif %}",
    "  {%+ if t %}a\n  {%- endif %}  \n b", "a\n\n{{ n }}\n\nb\n\n", "{# c #}\nx\n  {# c #}\ny", "  {#- c -#}  \n x",
    "{% set x = 1 %}\n{% set y = 2 %}\n{{ x }}\n", "{% if t +%}\na{% endif +%}\nb", "a\r\nb\rc\n", "{% raw %}\n a {{ b }}\n{% endraw %}\nc",
    "  {% raw %} a {% endraw %} b", "  {%- raw -%} a {%- endraw -%} b", "{{ 'a\nb' }}", "{{ n }}\n{{- n }}\n {{ n -}} \n x",
    "\n{% for x in l %}\n  {{ x }}\n{% endfor %}\n", "{%- for x in l -%}\n  {{ x }}\n{%- endfor -%}\n", "\t{% if t %}\t{% endif %}\t\n",
    "{{ {'a': {'b': 1}} }}", "{{ {'a': 1}}}", "{{ '}}' }}{{ '%}' }}{% if '%}' == '%}' %}x{% endif %}", "\u00a0{% if t %}x{% endif %}", "{%if t%}x{%endif%}",
    "{{-n-}}", "{{ n-1 }}{{n -1}}", "{{+n}}", "{# {{ n }} {% x %} #}y", "{{ n }}{# a\n\n#}\n{{ n }}", "a{{ n }}\n{# #}\n", "{ { n } } {n}",
]
