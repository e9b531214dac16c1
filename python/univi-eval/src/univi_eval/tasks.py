"""Task files for sets of the paper that lmms-eval has none of: MSVD-QA, MSRVTT-QA and TGIF-QA.

Their questions and answers are read as they are published for zero-shot evaluation: two JSON lists,
joined by `question_id`.
"""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SETS = ("msvd_qa", "msrvtt_qa", "tgif_qa")

#: Endings of clips, in the order in which they are looked for.
ENDINGS = ("", ".mp4", ".avi", ".webm", ".mkv", ".mov", ".gif")

#: What is no part of an answer's meaning.
ARTICLES = re.compile(r"\b(a|an|the)\b")


def documents(questions: Path, answers: Path, videos: Path) -> list[dict[str, Any]]:
    """Returns the questions with their answers and clips.

    Raises:
        ValueError: for a file that is no list of entries, an entry that lacks a text, a question
            without an answer or a clip, or an id that comes twice.
    """
    by_id: dict[str, str] = {}
    for place, entry in _entries(answers):
        key = _text(place, entry, "question_id")
        if key in by_id:
            raise ValueError(f"{answers}: question_id {key} comes twice")
        by_id[key] = _text(place, entry, "answer")
    found: list[dict[str, Any]] = []
    seen: set[str] = set()
    for place, entry in _entries(questions):
        key = _text(place, entry, "question_id")
        if key in seen:
            raise ValueError(f"{questions}: question_id {key} comes twice")
        seen.add(key)
        if key not in by_id:
            raise ValueError(f"{questions}: question_id {key} has no answer in {answers}")
        name = _text(place, entry, "video_name", "video")
        clip = next((path for path in _places(videos, name) if path.is_file()), None)
        if clip is None:
            raise ValueError(f"{questions}: {name} of question_id {key} is not in {videos}")
        found.append(
            {
                "question_id": key,
                "video": str(clip.resolve()),
                "question": _text(place, entry, "question"),
                "answer": by_id[key],
            }
        )
    return found


def write(name: str, entries: Iterable[dict[str, Any]], out: Path) -> Path:
    """Writes a task file with its questions into `out`, for `lmms-eval --include_path`."""
    out.mkdir(parents=True, exist_ok=True)
    data = out / f"{name}.jsonl"
    lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    data.write_text("".join(lines), encoding="utf-8")
    # YAML of lmms-eval finds functions in a file beside it.
    functions = out / "univi_functions.py"
    functions.write_text(
        "from univi_eval.tasks import exact_match, messages, question, visual\n", encoding="utf-8"
    )
    task = out / f"{name}.yaml"
    task.write_text(
        f"""task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {json.dumps(str(data.resolve()))}
test_split: test
output_type: generate_until
doc_to_messages: !function univi_functions.messages
doc_to_visual: !function univi_functions.visual
doc_to_text: !function univi_functions.question
doc_to_target: answer
process_results: !function univi_functions.exact_match
generation_kwargs:
  max_new_tokens: 128
  temperature: 0
  do_sample: false
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
metadata:
  - version: 1.0
""",
        encoding="utf-8",
    )
    return task


def messages(document: dict[str, Any], *_: Any, **__: Any) -> list[dict[str, Any]]:
    """Returns the clip and the question, as the paper asks."""
    content = [
        {"type": "video", "url": document["video"]},
        {"type": "text", "text": document["question"]},
    ]
    return [{"role": "user", "content": content}]


def visual(document: dict[str, Any], *_: Any, **__: Any) -> list[str]:
    """Returns the clip."""
    return [document["video"]]


def question(document: dict[str, Any], *_: Any, **__: Any) -> str:
    """Returns the question."""
    return str(document["question"])


def exact_match(document: dict[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Scores an answer: 1 where it is the right one, but for case, articles and punctuation."""
    same = normalized(results[0]) == normalized(document["answer"])
    return {"exact_match": float(same)}


def normalized(text: str) -> str:
    """Returns an answer in the form in which it is compared."""
    words = re.sub(r"[^\w\s]", " ", text.lower())
    return " ".join(ARTICLES.sub(" ", words).split())


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the task file that the command line asks for."""
    parser = argparse.ArgumentParser(prog="univi-eval-tasks", description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--questions", type=Path, required=True, help="test_q.json")
    parser.add_argument("--answers", type=Path, required=True, help="test_a.json")
    parser.add_argument("--videos", type=Path, required=True, help="the folder of the clips")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the task file")
    given = parser.parse_args(arguments)
    try:
        entries = documents(given.questions, given.answers, given.videos)
        task = write(given.set, entries, given.out)
    except (ValueError, OSError) as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{len(entries)} questions: lmms-eval --include_path {given.out} --tasks {task.stem}")


def _entries(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Returns the entries of a file, each with where it stands."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # It is no UTF-8, or no JSON.
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected a list of entries")
    if not entries:
        raise ValueError(f"{path}: the list is empty")
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: entry {index} is no object")
    return [(f"{path}: entry {index}", entry) for index, entry in enumerate(entries)]


def _text(place: str, entry: dict[str, Any], *names: str) -> str:
    """Returns the first of these fields that is there, a text or a number."""
    name = next((name for name in names if name in entry), None)
    if name is None:
        raise ValueError(f"{place} has no {' or '.join(names)}")
    value = entry[name]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{place}: {name} is {json.dumps(value)}, expected a text")
    return str(value)


def _places(videos: Path, name: str) -> Iterable[Path]:
    for prefix in ("", "v_"):
        for ending in ENDINGS:
            yield videos / f"{prefix}{name}{ending}"
