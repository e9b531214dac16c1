"""Messages, options and task files, without lmms-eval and without a server."""

import base64
import json
import tempfile
import threading
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace as Of
from unittest import mock

from univi_eval.client import TRIES, RequestFailed, Servers
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


class Server(ThreadingHTTPServer):
    """A server of a model that answers with its own name, or with an error."""

    def __init__(self, name, status=200):
        super().__init__(("127.0.0.1", 0), Asked)
        self.name, self.status, self.asked = name, status, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def end(self):
        self.shutdown()
        self.server_close()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Asked(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        message = {"role": "assistant", "content": self.server.name}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        completion = {"id": "1", "object": "chat.completion", "choices": [choice]}
        self.reply(self.server.status, completion)

    def reply(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Several(unittest.TestCase):
    def start(self, *args):
        server = Server(*args)
        self.addCleanup(server.server_close)
        return server

    def ask(self, servers, count):
        fields = lambda index: {"messages": [{"role": "user", "content": str(index)}]}  # noqa: E731
        return dict(servers.answer(count, fields))

    def test_what_one_server_fails_at_another_answers(self):
        healthy, full, dead = self.start("a"), self.start("b", 503), self.start("c")
        addresses = [server.address for server in (full, healthy, dead)]
        servers = Servers(addresses, concurrency=4)
        dead.end()
        answers = self.ask(servers, 40)
        self.assertEqual([answers[index].text for index in range(40)], ["a"] * 40)
        self.assertGreater(full.asked, 0)

    def test_what_all_servers_fail_at_fails_after_each_was_tried_as_often(self):
        full = [self.start("a", 503), self.start("b", 503)]
        servers = Servers([server.address for server in full], concurrency=1)
        with mock.patch("univi_eval.client.MOST_REST_S", 0):
            answers = self.ask(servers, 2)
        for index in range(2):
            self.assertIsInstance(answers[index], RequestFailed)
        self.assertEqual([server.asked for server in full], [2 * TRIES, 2 * TRIES])

    def test_what_no_other_server_would_answer_is_not_tried_again(self):
        servers = [self.start("a", 400), self.start("b", 400)]
        answers = self.ask(Servers([server.address for server in servers]), 3)
        self.assertTrue(all("400" in answers[index].reason for index in range(3)))
        self.assertEqual(sum(server.asked for server in servers), 3)


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
            ([one], [{**answer, "question_id": 8}], "question_id 7 has no answer"),
            ([one], [], "a.json: the list is empty"),
            ([], [answer], "q.json: the list is empty"),
            ([1], [answer], "q.json: entry 0 is no object"),
            ({"7": one}, [answer], "q.json: expected a list"),
            ([one], [{"question_id": 7}], "a.json: entry 0 has no answer"),
            ([one], [{**answer, "answer": None}], "a.json: entry 0: answer is null"),
            ([{"question": "what?", "question_id": 7}], [answer], "entry 0 has no video_name"),
            ([{**one, "question": ["what?"]}], [answer], "question is"),
            ([one, one], [answer], "twice"),
            ([one], [answer, answer], "twice"),
            ([{**one, "video_name": "three"}], [answer], "three"),
        ):
            with self.assertRaisesRegex(ValueError, says):
                documents(*self.files(questions, answers), self.folder)
        questions, answers = self.files([one], [answer])
        answers.write_text("[")
        with self.assertRaisesRegex(ValueError, "a.json: "):
            documents(questions, answers, self.folder)


if __name__ == "__main__":
    unittest.main()
