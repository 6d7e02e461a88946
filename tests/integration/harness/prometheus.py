"""Reads Prometheus text exposition, strictly enough to find a broken one."""

import re

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)(?: \d+)?$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"(?:,|$)')


class Metrics:
    def __init__(self, text: str):
        self.samples: list[tuple[str, dict[str, str], float]] = []
        self.types: dict[str, str] = {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ", 3)
                assert name not in self.types, f"{name} is declared twice"
                self.types[name] = kind
            elif line and not line.startswith("#"):
                match = _SAMPLE.match(line)
                assert match, f"not a sample: {line!r}"
                labels = dict(_LABEL.findall(match[2] or ""))
                self.samples.append((match[1], labels, float(match[3])))

    def names(self) -> set[str]:
        return {name for name, _, _ in self.samples}

    def sum(self, name: str, **labels: str) -> float:
        """Sum of the samples of `name` that have these labels; 0 when there is none."""
        return sum(
            value
            for sample, has, value in self.samples
            if sample == name and all(has.get(k) == v for k, v in labels.items())
        )

    def labels(self, name: str) -> list[dict[str, str]]:
        return [has for sample, has, _ in self.samples if sample == name]
