"""Messages, options and task files, without lmms-eval and without a server."""

import base64
import json
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace as Of

from univi_eval.messages import message_parts, request_fields
from univi_eval.tasks import documents, exact_match, main, messages


class Picture:
    """What is used of Pillow's pictures."""

    def convert(self, mode):
        assert mode == "RGB"
        return self

    def save(self, file, format, **options):
        file.write(f"{format} {options}".encode())


class Options(unittest.TestCase):
    def test_options_have_openais_names(self):
        fields = request_fields(
            {
                "max_new_tokens": 64,
                "temperature": 0,
                "top_p": 1.0,
                "num_beams": 1,
                "do_sample": False,
                "until": ["ASSISTANT:", ""],
                "image_aspect_ratio": "original",
            }
        )
        expected = {"max_tokens": 64, "temperature": 0, "top_p": 1.0, "stop": ["ASSISTANT:"]}
        self.assertEqual(fields, expected)
        self.assertEqual(request_fields({}), {"temperature": 0})
        self.assertEqual(request_fields({"temperature": 0.2}), {"temperature": 0.2})
        self.assertEqual(request_fields({"temperature": 0.2, "do_sample": False})["temperature"], 0)

    def test_what_can_not_be_sent_is_refused(self):
        for options in ({"num_beams": 5}, {"length_penalty": 2}):
            with self.assertRaisesRegex(ValueError, next(iter(options))):
                request_fields(options)


class Messages(unittest.TestCase):
    def test_pictures_and_clips_become_data_urls(self):
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder, "clip.webm")
            clip.write_bytes(b"clip")
            content = [
                Of(type="image", url=Picture()),
                Of(type="video", url=str(clip), start_time=None, end_time=None),
                Of(type="video", url=[Picture(), Picture()]),
                Of(type="text", text="What?"),
            ]
            [message] = message_parts([Of(role="user", content=content)])
        encoded = lambda text: base64.b64encode(text.encode()).decode()  # noqa: E731
        frame = encoded("JPEG {'quality': 95}")
        self.assertEqual(
            message["content"],
            [
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64," + encoded("PNG {}")},
                },
                {
                    "type": "video_url",
                    "video_url": {"url": "data:video/webm;base64," + encoded("clip")},
                },
                {
                    "type": "video_url",
                    "video_url": {"url": f"data:video/jpeg;base64,{frame},{frame}"},
                },
                {"type": "text", "text": "What?"},
            ],
        )

    def test_what_a_message_can_not_hold_is_refused(self):
        for content, says in (
            (Of(type="audio", url="a.wav"), "audio"),
            (Of(type="video", url="a.mp4", start_time=1.0, end_time=None), "start_time"),
            (Of(type="video", url=3, start_time=None, end_time=None), "int"),
        ):
            with self.assertRaisesRegex(ValueError, says):
                message_parts([Of(role="user", content=[content])])


class Tasks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for name in ("one.avi", "v_two.mp4"):
            (self.folder / name).write_bytes(b"clip")

    def files(self, questions, answers):
        paths = [self.folder / "q.json", self.folder / "a.json"]
        for path, entries in zip(paths, (questions, answers), strict=True):
            path.write_text(json.dumps(entries))
        return paths

    def test_questions_find_their_answers_and_clips(self):
        questions, answers = self.files(
            [
                {"video_name": "one", "question": "what?", "question_id": 7},
                {"video_name": "two", "question": "who?", "question_id": "8"},
            ],
            [{"answer": "man", "question_id": "8"}, {"answer": "dog", "question_id": 7}],
        )
        found = documents(questions, answers, self.folder)
        self.assertEqual([entry["answer"] for entry in found], ["dog", "man"])
        self.assertEqual([Path(entry["video"]).name for entry in found], ["one.avi", "v_two.mp4"])
        out = self.folder / "tasks"
        main(
            ["msvd_qa", "--questions", str(questions), "--answers", str(answers)]
            + ["--videos", str(self.folder), "--out", str(out)]
        )
        lines = (out / "msvd_qa.jsonl").read_text().splitlines()
        self.assertEqual([json.loads(line) for line in lines], found)
        [message] = messages(found[0])
        self.assertEqual(message["content"][1], {"type": "text", "text": "what?"})
        self.assertEqual(exact_match(found[0], ["A dog."]), {"exact_match": 1.0})
        self.assertEqual(exact_match(found[0], ["dogs"]), {"exact_match": 0.0})

    def test_what_is_missing_or_comes_twice_is_named(self):
        one = {"video_name": "one", "question": "what?", "question_id": 7}
        answer = {"answer": "dog", "question_id": 7}
        for questions, answers, says in (
            ([one], [], "no answer"),
            ([one, one], [answer], "twice"),
            ([one], [answer, answer], "twice"),
            ([{**one, "video_name": "three"}], [answer], "three"),
        ):
            with self.assertRaisesRegex(ValueError, says):
                documents(*self.files(questions, answers), self.folder)


if __name__ == "__main__":
    unittest.main()
