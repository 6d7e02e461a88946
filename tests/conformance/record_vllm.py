"""Records the shapes of a real vLLM's answers: record_vllm.py PORT > vllm.json (tools/peers/vllm start PORT)."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from cases import cases, record, record_metrics  # noqa: E402
from harness.gateway import fetch_metrics  # noqa: E402
from harness.raw import RawConnection  # noqa: E402


def main(port: int) -> None:
    address = ("127.0.0.1", port)
    out = {}
    for case in cases("tiny"):
        with RawConnection(address) as connection:
            body = b"" if case.body is None else json.dumps(case.body).encode()
            out[case.name] = record(connection.request(case.method, case.path, body))
    print(json.dumps({"answers": out, "metrics": record_metrics(fetch_metrics(address))}, indent=1))


if __name__ == "__main__":
    main(int(sys.argv[1]))
