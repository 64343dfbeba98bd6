"""Decrypts objects that are encrypted as WAL-G does it with libsodium, by libsodium itself (PyNaCl).

Arguments: a folder, and files. The key comes in hex on standard input. Each file must be one secretstream, of chunks of
8192 bytes of content, that ends with the FINAL tag and has nothing after it. The contents go into the folder, under the
number of the file in the arguments.
"""

import os
import sys

from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_HEADERBYTES as HEADER,
    crypto_secretstream_xchacha20poly1305_TAG_FINAL as FINAL,
    crypto_secretstream_xchacha20poly1305_TAG_MESSAGE as MESSAGE,
    crypto_secretstream_xchacha20poly1305_init_pull,
    crypto_secretstream_xchacha20poly1305_pull,
    crypto_secretstream_xchacha20poly1305_state,
)

CHUNK = 8192 + 17


def decrypt(stored: bytes, key: bytes) -> bytes:
    state = crypto_secretstream_xchacha20poly1305_state()
    crypto_secretstream_xchacha20poly1305_init_pull(state, stored[:HEADER], key)
    contents = []
    at = HEADER
    while True:
        chunk = stored[at : at + CHUNK]
        if not chunk:
            raise ValueError("it ends without the FINAL tag")
        content, tag = crypto_secretstream_xchacha20poly1305_pull(state, chunk)
        at += len(chunk)
        contents.append(content)
        # WAL-G takes the first chunk that is not full for the last one, and reads no full chunk as the last.
        if (tag == FINAL) != (len(content) < 8192) or tag not in (FINAL, MESSAGE):
            raise ValueError(f"tag {tag} on {len(content)} bytes of content")
        if tag == FINAL:
            break
    if at != len(stored):
        raise ValueError(f"{len(stored) - at} bytes follow the FINAL tag")
    return b"".join(contents)


key = bytes.fromhex(sys.stdin.read())
folder, *files = sys.argv[1:]
for number, path in enumerate(files):
    with open(path, "rb") as file:
        stored = file.read()
    try:
        content = decrypt(stored, key)
    except Exception as error:
        sys.exit(f"{path}: {error}")
    with open(os.path.join(folder, str(number)), "wb") as file:
        file.write(content)
