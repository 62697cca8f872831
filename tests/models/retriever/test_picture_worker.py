"""Hostile pictures end at most a worker, soon, and the next picture is decoded."""

import asyncio
import contextlib
import io
import os
import time
import zlib
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from models.retriever import picture_worker
from models.retriever.pictures import PictureError, decode_picture

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">{}</svg>'
NESTED_USE = "<defs><g id='a0'><rect width='1' height='1'/></g>" + "".join(
    f"<g id='a{n}'>" + f"<use href='#a{n - 1}'/>" * 10 + "</g>" for n in range(1, 9)
) + "</defs><use href='#a8'/>"  # fmt: skip
HOSTILE = {
    "octaves": "<filter id='f'><feTurbulence baseFrequency='.05' numOctaves='100000000'/></filter>"
    "<rect width='10' height='10' filter='url(#f)'/>",
    "depth": "<g>" * 5000 + "</g>" * 5000,
    "nested uses": NESTED_USE,
    "huge pattern": "<pattern id='p' width='1e7' height='1e7' patternUnits='userSpaceOnUse'>"
    "<rect width='1e7' height='1e7'/></pattern><rect width='1e7' height='1e7' fill='url(#p)'/>",
}


def decode(data: bytes) -> Image.Image:
    return asyncio.run(picture_worker.decode(data))


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_drawing_is_refused_or_drawn_within_two_seconds(kind: str) -> None:
    decode(SVG.format("<rect width='9' height='9'/>").encode())  # the workers have started
    began = time.monotonic()
    with contextlib.suppress(PictureError):
        decode(SVG.format(HOSTILE[kind]).encode())
    assert time.monotonic() - began < 2 * picture_worker.CPU_S + 1
    assert decode(png(Image.new("RGB", (3, 2), "red"))).getpixel((0, 0)) == (255, 0, 0)


def test_octaves_without_end_are_refused() -> None:
    with pytest.raises(PictureError, match="too much time or memory"):
        decode(SVG.format(HOSTILE["octaves"]).encode())


def test_a_picture_comes_back_as_it_is_decoded_here() -> None:
    data = png(Image.effect_noise((70, 50), 80))
    assert decode(data).tobytes() == decode_picture(data).tobytes()


@pytest.mark.parametrize("size", [(2, 200_000), (100_000, 1)])
def test_a_thread_of_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match="more than 100 to 1"):
        decode(png(Image.new("1", size)))


def test_a_picture_of_the_largest_size_is_decoded() -> None:
    """And its worker's memory is enough for the layers of a transparent one."""
    side = 7_071
    rows = zlib.compress(b"\0" * (side * 4 + 1) * side, 1)
    data = png_of(side, side, rows)
    assert decode(data).size == (1179, 1179)  # scaled down by 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])  # JPEG is decoded smaller
def test_a_large_photo_is_scaled_down_without_a_change_that_an_encoder_sees(kind: str) -> None:
    noise = Image.effect_noise((400, 300), 80).resize((4000, 3000), Image.Resampling.BICUBIC)
    content = io.BytesIO()
    noise.save(content, kind)
    small = decode(content.getvalue())
    assert small.size == (2000, 1500)
    seen, expected = (
        np.asarray(image.convert("L").resize((224, 168), Image.Resampling.BICUBIC), float)
        for image in (small, noise)
    )
    assert np.abs(seen - expected).mean() < 0.5  # of 255


def test_files_are_read_in_order_and_errors_are_in_their_place(tmp_path: Path) -> None:
    files = [tmp_path / f"{n}.png" for n in range(30)]
    for n, path in enumerate(files):
        path.write_bytes(b"no picture" if n == 7 else png(Image.new("RGB", (n + 1, 9))))
    files[12].unlink()
    found = list(picture_worker.read_all(files))
    assert isinstance(found[7], PictureError)
    assert isinstance(found[12], FileNotFoundError)
    widths = {n: each.width for n, each in enumerate(found) if isinstance(each, Image.Image)}
    assert widths == {n: n + 1 for n in range(30) if n not in (7, 12)}


def test_a_warning_names_its_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # says that five entries follow
    Image.new("RGB", (8, 8)).save(tmp_path / "holiday.jpg", exif=cut)
    picture_worker._read(tmp_path / "holiday.jpg", 512)
    said = capsys.readouterr().err
    assert said.startswith("holiday.jpg: Corrupt EXIF data")
    assert "PIL" not in said


def test_a_large_transparent_picture_is_scaled_down_without_its_hidden_colours() -> None:
    half = Image.new("RGBA", (2048, 2048), (255, 0, 0, 0))
    half.paste((0, 0, 255, 255), (0, 0, 1023, 2048))
    small = decode(png(half))
    assert small.size == (1024, 1024)
    assert small.getpixel((900, 500)) == (255, 255, 255)
    edge = small.getpixel((511, 500))
    assert isinstance(edge, tuple)
    assert (edge[0], edge[2]) == (edge[1], 255)  # blue on white


async def test_pictures_are_decoded_while_somebody_kills_the_workers() -> None:
    """Also if a worker holds the pool's lock when it is killed, which breaks the pool."""
    data, until = png(Image.new("RGB", (640, 480), "red")), time.monotonic() + 9

    async def decode_on() -> None:
        while time.monotonic() < until:
            assert (await picture_worker.decode(data)).size == (640, 480)

    async def kill_on() -> None:
        while time.monotonic() < until - 1:
            await asyncio.sleep(2.5)
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error):
                    if "multiprocessing.spawn" in " ".join(child.cmdline()):
                        child.kill()
                        break

    await asyncio.gather(kill_on(), *(decode_on() for _ in range(4)))


def test_a_pool_that_is_broken_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png(Image.new("RGB", (3, 2), "red")))
    picture_worker._pool().stop()
    assert decode(png(Image.new("RGB", (3, 2), "red"))).size == (3, 2)
    picture_worker._pool().stop()
    assert picture_worker.thumbnail(tmp_path / "red.png", 16)
    picture_worker._pool().stop()
    (found,) = picture_worker.read_all([tmp_path / "red.png"])
    assert isinstance(found, Image.Image)


def test_a_worker_ends_with_the_process_that_uses_it(tmp_path: Path) -> None:
    read, write = os.pipe()
    pid = os.posix_spawn(
        os.path.realpath(psutil.Process().exe()),
        [psutil.Process().exe(), "-c", _USES_A_WORKER],
        {**os.environ, "PYTHONPATH": os.pathsep.join(__import__("sys").path)},
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)],
    )
    os.close(write)
    workers = [int(word) for word in os.read(read, 1000).split()]
    assert workers
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    _, alive = psutil.wait_procs([psutil.Process(w) for w in workers if psutil.pid_exists(w)], 5)
    assert not alive


_USES_A_WORKER = """
import asyncio, os, time
from models.retriever import picture_worker
if __name__ == "__main__":
    import psutil
    try:
        asyncio.run(picture_worker.decode(b"no picture"))
    except Exception:
        pass
    print(*(child.pid for child in psutil.Process().children()), flush=True)
    time.sleep(60)
"""


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def png_of(width: int, height: int, rows: bytes) -> bytes:
    """A PNG with an alpha channel, from compressed rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return len(data).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)

    head = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 6, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
