"""Asks two `univi serve --model univi-nano`: their addresses with `+` between them, the key and a
picture's path are the arguments, one JSON object is printed."""

import json
import sys
from types import SimpleNamespace as Of

from univi_eval.client import RequestFailed, Servers
from univi_eval.messages import message_parts, request_fields

addresses, key, picture = sys.argv[1:]
servers = Servers(addresses.split("+"), api_key=key, concurrency=2)
questions = ["Can you see a penguin?", "What colour is the background?"] * 4 + ["a " * 9000]


def request(index):
    content = [Of(type="image", url=picture), Of(type="text", text=questions[index])]
    options = {"max_new_tokens": 20, "do_sample": False, "until": ["\n"], "top_k": 1}
    return {
        "messages": message_parts([Of(role="user", content=content)]),
        **request_fields(options),
    }


answers, failed, tokens = [""] * len(questions), [], 0
for index, answer in servers.answer(len(questions), request):
    if isinstance(answer, RequestFailed):
        failed.append([index, "context" in answer.reason])
    else:
        answers[index] = answer.text
        tokens += answer.completion_tokens
try:
    Servers(addresses.split("+"), api_key=key, model="gpt")
    refused = None
except ValueError as error:
    refused = "univi-nano, not gpt" in str(error)
print(
    json.dumps(
        {
            "model": servers.model,
            "answers": answers[:8],
            "failed": failed,
            "tokens": tokens > 0,
            "refused": refused,
        }
    )
)
