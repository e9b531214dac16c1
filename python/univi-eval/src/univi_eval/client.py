"""Several servers of one model, asked at once."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai

#: How often each server is tried with a request that it had no place, time or memory for, or where
#: it broke.
TRIES = 8

#: Seconds that a server is left alone after it failed, at most.
MOST_REST_S = 30

#: Failures that may pass, or that another server may not have.
PASSING = (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError)


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
        tasks = _Tasks(count, len(self._clients))
        done: queue.SimpleQueue[tuple[int, Answer | RequestFailed]] = queue.SimpleQueue()

        def work(server: int) -> None:
            failures = 0
            while (task := tasks.take(server)) is not None:
                try:
                    answer: Answer | RequestFailed = self._ask(server, request(task.index))
                except Exception as error:  # It is the caller's to decide what a failure means.
                    passes = isinstance(error, PASSING)
                    if passes and tasks.put_back(task, server):
                        # Others take it meanwhile.
                        tasks.rest(min(2**failures, MOST_REST_S))
                        failures += 1
                        continue
                    answer = RequestFailed(task.index, f"{type(error).__name__}: {error}")
                else:
                    failures = 0
                tasks.finish()
                done.put((task.index, answer))

        threads = [
            threading.Thread(target=work, args=(server,), daemon=True)
            for server in range(len(self._clients))
            for _ in range(self._concurrency)
        ]
        for thread in threads:
            thread.start()
        try:
            for _ in range(count):
                yield done.get()
        finally:
            tasks.stop()

    def _ask(self, server: int, fields: dict[str, Any]) -> Answer:
        # What OpenAI's own servers have no field for goes beside it.
        extra = {
            name: fields.pop(name)
            for name in ("top_k", "min_p", "repetition_penalty")
            if name in fields
        }
        completion = self._clients[server].chat.completions.create(
            model=self.model, extra_body=extra, **fields
        )
        usage = completion.usage
        return Answer(
            text=completion.choices[0].message.content or "",
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
        )


@dataclass
class _Task:
    """A request that has no answer yet."""

    index: int
    #: Tries until now.
    tries: int = 0
    #: Servers that failed at it since all of them did.
    failed_at: set[int] = field(default_factory=set)


class _Tasks:
    """Requests that wait for a server, in their order. One that a server failed at goes to another;
    to the same one only after all have failed at it."""

    def __init__(self, count: int, servers: int) -> None:
        self._waiting = [_Task(index) for index in reversed(range(count))]
        self._unfinished = count
        self._servers = servers
        self._changed = threading.Condition()
        self._stopped = threading.Event()

    def take(self, server: int) -> _Task | None:
        """Waits for a request for this server; returns `None` where none will come."""
        with self._changed:
            while self._unfinished and not self._stopped.is_set():
                for at in range(len(self._waiting) - 1, -1, -1):
                    if server not in self._waiting[at].failed_at:
                        return self._waiting.pop(at)
                self._changed.wait()
            return None

    def put_back(self, task: _Task, server: int) -> bool:
        """Lets a request wait for another server; returns whether it may be tried again."""
        task.tries += 1
        if task.tries >= TRIES * self._servers or self._stopped.is_set():
            return False
        task.failed_at.add(server)
        if len(task.failed_at) == self._servers:
            task.failed_at.clear()
        with self._changed:
            self._waiting.append(task)
            self._changed.notify_all()
        return True

    def finish(self) -> None:
        """Counts a request that has its answer, or none for good."""
        with self._changed:
            self._unfinished -= 1
            if not self._unfinished:
                self._stopped.set()
                self._changed.notify_all()

    def rest(self, seconds: float) -> None:
        """Waits, but not longer than there is something to do."""
        self._stopped.wait(seconds)

    def stop(self) -> None:
        """Lets all workers end."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()


def _base_url(address: str) -> str:
    address = address.rstrip("/")
    return address if address.count("/") > 2 else f"{address}/v1"
