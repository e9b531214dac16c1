"""The model `univi` of lmms-eval."""

import logging
import os
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.protocol import ChatMessages

from univi_eval.client import RequestFailed, Servers
from univi_eval.messages import message_parts, request_fields

log = logging.getLogger("univi_eval")


class Univi(lmms):
    """Asks one or several `univi serve --model`.

    Args:
        servers: addresses with `+` between them, such as `http://a:8000+http://b:8000`.
        api_key: the servers' key; by default the environment's `UNIVI_API_KEY`.
        model: what they call the model; by default the first one's name.
        concurrency: requests that each server is sent at once.
        timeout: seconds that a request may take.
        on_error: `stop` ends the run at a request without an answer; `skip` takes an empty one.
    """

    is_simple = False

    def __init__(
        self,
        servers: str = "http://127.0.0.1:8000",
        api_key: str | None = None,
        model: str | None = None,
        concurrency: int = 4,
        timeout: float = 600,
        on_error: str = "stop",
        **others: Any,
    ) -> None:
        super().__init__()
        # lmms-eval passes these to every model.
        unknown = set(others) - {"batch_size", "max_batch_size", "device"}
        if unknown:
            raise ValueError(f"univi has no argument {', '.join(sorted(unknown))}")
        if on_error not in ("stop", "skip"):
            raise ValueError(f"on_error is {on_error!r}, expected stop or skip")
        self._on_error = on_error
        self._servers = Servers(
            servers.split("+"),
            api_key=api_key or os.environ.get("UNIVI_API_KEY") or "none",
            model=model,
            concurrency=int(concurrency),
            timeout=float(timeout),
        )

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answers the requests, in their order."""

        def fields(index: int) -> dict[str, Any]:
            _, doc_to_messages, options, doc_id, task, split = requests[index].args
            messages = ChatMessages(messages=doc_to_messages(self.task_dict[task][split][doc_id]))
            return {"messages": message_parts(messages.messages), **request_fields(options)}

        results: list[GenerationResult | None] = [None] * len(requests)
        for index, answer in self._servers.answer(len(requests), fields):
            if isinstance(answer, RequestFailed):
                _, _, _, doc_id, task, _ = requests[index].args
                what = f"document {doc_id} of {task}: {answer.reason}"
                if self._on_error == "stop":
                    raise RuntimeError(what)
                log.error(what)
                results[index] = GenerationResult(text="")
                continue
            counts = TokenCounts(
                input_tokens=answer.prompt_tokens, output_tokens=answer.completion_tokens
            )
            results[index] = GenerationResult(text=answer.text, token_counts=counts)
        return [result for result in results if result is not None]

    def generate_until_multi_round(self, requests: list[Instance]) -> list[GenerationResult]:
        """Refuses tasks of several rounds."""
        raise NotImplementedError("univi answers tasks of one round alone")

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Refuses tasks that rank given answers: chat completions carry no such numbers."""
        raise NotImplementedError(
            "chat completions carry no log-likelihoods of given answers; take the task's "
            "generate_until form"
        )
