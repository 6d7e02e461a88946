"""Records the events that vLLM publishes for prompts with images, salts and adapters.

  $(tools/peers/vllm install) tests/conformance/record_kv_media.py > tests/conformance/kv_media.json
"""

import json
import logging
import random
import sys
from types import SimpleNamespace


def main() -> None:
    logging.disable(logging.CRITICAL)
    import msgspec
    from vllm.distributed.kv_events import BlockStored, KVEventBatch
    from vllm.v1.core.kv_cache_utils import generate_block_hash_extra_keys, to_event_extra_keys

    pick = random.Random(5)
    cases = []
    for number in range(60):
        block_size = pick.choice([8, 16, 32, 64, 128])
        blocks = pick.randrange(1, 9)
        tokens = [pick.randrange(1000) for _ in range(blocks * block_size)]
        media = []
        at = pick.randrange(40)
        while at < len(tokens) and len(media) < 6:
            length = pick.choice([1, 5, 16, 33, 90])
            # The last one may reach into a block that is not full yet.
            media.append({"offset": at, "length": length, "name": f"{pick.getrandbits(256):064x}"})
            for i in range(at, min(at + length, len(tokens))):
                tokens[i] = 7
            at += length + pick.choice([0, 1, 20, 70])
        salt = pick.choice([None, None, "tenant", f"{pick.getrandbits(256):064x}"])
        adapter = pick.choice([None, None, "sql"])
        request = SimpleNamespace(
            mm_features=[SimpleNamespace(identifier=m["name"], mm_position=SimpleNamespace(offset=m["offset"], length=m["length"]))
                         for m in media],
            lora_request=adapter and SimpleNamespace(lora_name=adapter, lora_path="/adapters/sql"),
            cache_salt=salt, prompt_embeds=None)
        keys = []
        at_media = 0
        for i in range(blocks):
            key, at_media = generate_block_hash_extra_keys(request, i * block_size, (i + 1) * block_size, at_media)
            keys.append(key)
        case = {"block_size": block_size, "tokens": tokens, "media": media, "salt": salt or "", "adapter": adapter or ""}
        # As they are, and as they are hashed: vLLM means to publish these once consumers know them.
        for form, extra in (("event", to_event_extra_keys(keys)), ("tagged event", keys)):
            stored = BlockStored(
                block_hashes=[1000 * number + i + 1 for i in range(blocks)], parent_block_hash=None, token_ids=tokens,
                block_size=block_size, lora_id=1 if adapter else None, medium="GPU", lora_name=adapter, extra_keys=extra)
            case[form] = msgspec.msgpack.encode(KVEventBatch(ts=1.0, events=[stored])).hex()
        cases.append(case)
    json.dump(cases, sys.stdout)
    print()


if __name__ == "__main__":
    main()
