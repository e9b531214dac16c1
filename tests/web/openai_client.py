"""Asks `univi serve --model` through OpenAI's package for Python: URL, key and a picture's path are
the arguments, one JSON object is printed."""

import base64
import json
import sys
from typing import Literal

import openai
import pydantic

url, key, picture = sys.argv[1:]
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)
greedy = {"model": "univi-nano", "temperature": 0}
with open(picture, "rb") as file:
    address = "data:image/png;base64," + base64.b64encode(file.read()).decode()


def about(text):
    parts = [
        {"type": "image_url", "image_url": {"url": address}},
        {"type": "text", "text": text},
    ]
    return [{"role": "user", "content": parts}]


class Answer(pydantic.BaseModel):
    seen: Literal["yes", "no"]


whole = client.chat.completions.create(messages=about("Can you see a penguin?"), **greedy)
stream = client.chat.completions.create(
    messages=about("What colour is the background?"), stream=True, **greedy
)
pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
parsed = client.chat.completions.parse(
    messages=about("Can you see a penguin?"), response_format=Answer, **greedy
)
try:
    client.chat.completions.create(messages=about("a"), n=2, **greedy)
    refused = None
except openai.BadRequestError as error:
    refused = error.param
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "stream": "".join(pieces),
            "parsed": parsed.choices[0].message.parsed.seen,
            "refused": refused,
            "models": [model.id for model in client.models.list()],
        }
    )
)
