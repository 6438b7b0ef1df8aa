"""LlamaIndex's client of OpenAI-like servers asks a service; run by a python that has it."""

from __future__ import annotations

import sys

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike


def main(address: str, key: str, question: str) -> None:
    fields = {"api_base": address, "api_key": key, "is_chat_model": True, "context_window": 4096}
    model = OpenAILike(model="base", **fields)
    said = [ChatMessage(role="user", content=question)]
    print(model.chat(said).message.content)
    print("".join(piece.delta or "" for piece in model.stream_chat(said)))
    print(model.complete(question).text)
    plain = OpenAILike(model="plain", **fields)
    print(plain.chat([ChatMessage(role="system", content="Write titles."), *said]).message.content)


if __name__ == "__main__":
    main(*sys.argv[1:])
