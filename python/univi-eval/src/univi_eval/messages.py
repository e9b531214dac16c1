"""Messages and options of lmms-eval in the terms of `univi serve`."""

import base64
import io
import mimetypes
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Options of lmms-eval's tasks that say how other models prepare pictures or search; they change
#: nothing about an answer that is drawn or greedy.
WITHOUT_EFFECT = frozenset({"image_aspect_ratio", "num_beams", "use_cache", "modalities"})

#: Options that are sent under the same name.
SAME = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")


def request_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a request for a task's `generation_kwargs`.

    Raises:
        ValueError: for an option that would have an effect, but can't be sent.
    """
    fields: dict[str, Any] = {}
    for name, value in options.items():
        if value is None or name == "do_sample":
            continue
        if name == "num_beams" and value != 1:
            raise ValueError(f"num_beams is {value}: univi serve has no beam search; set it to 1")
        if name in ("max_new_tokens", "max_tokens", "max_gen_toks"):
            fields["max_tokens"] = int(value)
        elif name in ("until", "stop"):
            texts = [value] if isinstance(value, str) else list(value)
            fields["stop"] = [text for text in texts if text]
        elif name in SAME:
            fields[name] = value
        elif name not in WITHOUT_EFFECT:
            raise ValueError(f"{name} can't be sent to univi serve; leave it out of the task")
    if not options.get("do_sample", fields.get("temperature", 0) > 0):
        fields["temperature"] = 0
    return fields


def message_parts(messages: Iterable[Any]) -> list[dict[str, Any]]:
    """Returns messages of lmms-eval's `ChatMessages` as OpenAI has them.

    Raises:
        ValueError: for what a message of `univi serve` can't hold.
    """
    return [
        {"role": message.role, "content": [_part(content) for content in message.content]}
        for message in messages
    ]


def _part(content: Any) -> dict[str, Any]:
    if content.type == "text":
        return {"type": "text", "text": content.text}
    if content.type == "image":
        return {"type": "image_url", "image_url": {"url": _image_url(content.url)}}
    if content.type == "video":
        for name in ("start_time", "end_time"):
            if getattr(content, name, None) is not None:
                raise ValueError(f"{name} of a video can't be sent; cut the video before")
        return {"type": "video_url", "video_url": {"url": _video_url(content.url)}}
    raise ValueError(f"a part of type {content.type} can't be sent to univi serve")


def _image_url(image: Any) -> str:
    if isinstance(image, (str, os.PathLike)):
        return _file_url(image, "image/png")
    return _data_url("image/png", _encoded(image, "PNG"))


def _video_url(video: Any) -> str:
    if isinstance(video, (str, os.PathLike)):
        return _file_url(video, "video/mp4")
    if not isinstance(video, Sequence):
        raise ValueError(f"a video is a path or a list of frames, not a {type(video).__name__}")
    # Frames of a clip, which is merged as one.
    frames = (base64.b64encode(_encoded(frame, "JPEG")).decode() for frame in video)
    return "data:video/jpeg;base64," + ",".join(frames)


def _encoded(image: Any, format: str) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": 95} if format == "JPEG" else {}
    image.convert("RGB").save(buffer, format=format, **options)
    return buffer.getvalue()


def _file_url(path: "str | os.PathLike[str]", default: str) -> str:
    text = os.fspath(path)
    if text.startswith(("http://", "https://", "data:")):
        return text
    with open(text.removeprefix("file://"), "rb") as file:
        return _data_url(mimetypes.guess_type(text)[0] or default, file.read())


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
