"""Runs lmms-eval itself over servers of univi-nano, on tasks that need no network: pictures of the
demo page, and its clips by `univi-eval-tasks`. Exits with 1 where an answer is another than it was.

    univi serve --model models/univi-nano --port 8000
    python3 python/univi-eval/tests/run_lmms_eval.py http://127.0.0.1:8000

It needs the extra `lmms-eval`, which brings PyTorch: no part of the project's own tests.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[3] / "www/public/samples"

PICTURES = [
    ("penguin-cookie.png", "Can you see a penguin?", "yes"),
    ("penguin-cookie.png", "Can you see an elephant?", "no"),
    ("trophies-bee.png", "How many trophies are there?", "2"),
    ("train-zebra.png", "Where is the zebra?", "top right"),
]

CLIPS = [
    ("penguin-moves.webm", "What happens?", "A penguin moves right."),
    ("unicorn-cake-owl.webm", "What appears last?", "owl"),
]

#: As tasks of lmms-eval are that know of no messages.
FUNCTIONS = """
from PIL import Image

def visual(document):
    return [Image.open(document["image"]).convert("RGB")]

def question(document, lmms_eval_specific_kwargs=None):
    return document["question"]

def accuracy(document, results):
    return {"accuracy": float(results[0].strip().lower() == document["answer"])}
"""

TASK = """
task: univi_pictures
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function pictures.visual
doc_to_text: !function pictures.question
doc_to_target: answer
process_results: !function pictures.accuracy
generation_kwargs:
  max_new_tokens: 16
  temperature: 0
  do_sample: false
metric_list:
  - metric: accuracy
    aggregation: mean
    higher_is_better: true
"""


def write_pictures(folder: Path) -> None:
    lines = [
        json.dumps({"image": str(SAMPLES / name), "question": question, "answer": answer})
        for name, question, answer in PICTURES
    ]
    data = folder / "pictures.jsonl"
    data.write_text("\n".join(lines) + "\n")
    (folder / "pictures.py").write_text(FUNCTIONS)
    (folder / "univi_pictures.yaml").write_text(TASK.format(data=json.dumps(str(data))))


def write_clips(folder: Path) -> None:
    ids = [f"v{index}" for index in range(len(CLIPS))]
    questions = [
        {"question_id": key, "video_name": name, "question": question}
        for key, (name, question, _) in zip(ids, CLIPS, strict=True)
    ]
    answers = [
        {"question_id": key, "answer": answer}
        for key, (_, _, answer) in zip(ids, CLIPS, strict=True)
    ]
    (folder / "questions.json").write_text(json.dumps(questions))
    (folder / "answers.json").write_text(json.dumps(answers))
    files = ["--questions", folder / "questions.json", "--answers", folder / "answers.json"]
    command = ["univi-eval-tasks", "msvd_qa", *files, "--videos", SAMPLES, "--out", folder]
    subprocess.run(command, check=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder)
        write_clips(folder)
        out = folder / "out"
        command = [
            *("lmms-eval", "--model", "univi", "--model_args", f"servers={'+'.join(sys.argv[1:])}"),
            *("--include_path", folder, "--tasks", "univi_pictures,msvd_qa"),
            *("--output_path", out),
        ]
        subprocess.run(command, check=True)
        (results,) = out.rglob("*_results.json")
        found = json.loads(results.read_text())["results"]
        scores = {
            "pictures": found["univi_pictures"]["accuracy,none"],
            "clips": found["msvd_qa"]["exact_match,none"],
        }
        print(scores)
        sys.exit(any(score != 1 for score in scores.values()))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main()
