"""Several servers of one model, asked at once."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import openai

#: How often a request is tried again that a server had no place, time or memory for, or that broke.
TRIES = 8


@dataclass(frozen=True)
class Answer:
    """An answer and what it took."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class RequestFailed(Exception):
    """A request that has no answer: which one, and why."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"request {index}: {reason}")
        self.index = index
        self.reason = reason


class Servers:
    """Servers of one model. Each request goes to whichever is free first."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        api_key: str = "none",
        model: str | None = None,
        concurrency: int = 4,
        timeout: float = 600,
    ) -> None:
        """Asks the servers for their model.

        Raises:
            ValueError: where they serve different models, or none that is called `model`.
        """
        if not addresses:
            raise ValueError("there is no server; name one, such as http://127.0.0.1:8000")
        self._clients = [
            openai.OpenAI(
                base_url=_base_url(address), api_key=api_key, timeout=timeout, max_retries=0
            )
            for address in addresses
        ]
        self._concurrency = concurrency
        served = [[entry.id for entry in client.models.list()] for client in self._clients]
        self.model = model if model is not None else served[0][0]
        for address, names in zip(addresses, served, strict=True):
            if self.model not in names:
                raise ValueError(f"{address} serves {', '.join(names)}, not {self.model}")

    def answer(
        self, count: int, request: Callable[[int], dict[str, Any]]
    ) -> Iterator[tuple[int, Answer | RequestFailed]]:
        """Asks `request(index)` for each index below `count`, and yields answers as they come.

        Requests are made when their turn comes, so that pictures of a few are in memory at once.
        """
        waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(count):
            waiting.put(index)
        done: queue.SimpleQueue[tuple[int, Answer | RequestFailed]] = queue.SimpleQueue()
        stop = threading.Event()

        def work(client: openai.OpenAI) -> None:
            while not stop.is_set():
                try:
                    index = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    answer: Answer | RequestFailed = self._ask(client, request(index), stop)
                except Exception as error:  # It is the caller's to decide what a failure means.
                    answer = RequestFailed(index, f"{type(error).__name__}: {error}")
                done.put((index, answer))

        threads = [
            threading.Thread(target=work, args=(client,), daemon=True)
            for client in self._clients
            for _ in range(self._concurrency)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(count):
                yield done.get()
        finally:
            stop.set()

    def _ask(
        self, client: openai.OpenAI, fields: dict[str, Any], stop: threading.Event
    ) -> Answer:
        # What OpenAI's own servers have no field for goes beside it.
        extra = {
            name: fields.pop(name)
            for name in ("top_k", "min_p", "repetition_penalty")
            if name in fields
        }
        for attempt in range(TRIES):
            try:
                completion = client.chat.completions.create(
                    model=self.model, extra_body=extra, **fields
                )
            except (
                openai.APIConnectionError,
                openai.RateLimitError,
                openai.InternalServerError,
            ):
                if attempt == TRIES - 1 or stop.is_set():
                    raise
                time.sleep(min(2**attempt, 30))
                continue
            usage = completion.usage
            return Answer(
                text=completion.choices[0].message.content or "",
                prompt_tokens=usage.prompt_tokens if usage else 0,
                completion_tokens=usage.completion_tokens if usage else 0,
            )
        raise AssertionError("the last attempt returns or raises")


def _base_url(address: str) -> str:
    address = address.rstrip("/")
    return address if address.count("/") > 2 else f"{address}/v1"
