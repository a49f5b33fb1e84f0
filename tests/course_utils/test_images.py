"""images: whatever a file holds comes out upright, RGB and uint8, or a clear error."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.io import ImageReadMode, decode_image

from course_utils import images

H, W = 6, 9


@pytest.fixture
def picture() -> np.ndarray:
    """RGB, (6, 9, 3), no two pixels alike."""
    return (np.arange(H * W * 3, dtype=np.uint8) * 3).reshape(H, W, 3)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array)
    if mode is not None:
        image = image.convert(mode)
    image.save(path, **options)
    return path


def exif(value) -> bytes:
    tags = Image.Exif()
    tags[images.ORIENTATION] = value
    return tags.tobytes()


def as_tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array).copy()).permute(2, 0, 1)


def png(width, height, depth, color, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand: rows as they are stored, filter bytes included."""

    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = [(b"IHDR", head), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return images.SIGNATURE + b"".join(chunk(name, data) for name, data in parts)


# --- images --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.ppm"])
def test_rgb_is_read_as_it_is(tmp_path, picture, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    image = images.read_image(save(tmp_path / name, picture, **options))
    assert image.shape == (3, H, W) and image.dtype == torch.uint8
    assert torch.equal(image, as_tensor(picture))


def test_the_tensor_is_one_s_own(tmp_path, picture):
    path = save(tmp_path / "a.png", picture)
    image = images.read_image(str(path))  # a string will do
    image.zero_()  # writable, and no view of a cache
    assert torch.equal(images.read_image(path), as_tensor(picture))


@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")
def test_equal_to_torchvision_on_the_files_both_read(tmp_path, picture):
    gray, alpha = picture[..., 0], np.dstack([picture, picture[..., :1]])
    made = [
        save(tmp_path / "rgb.png", picture),
        save(tmp_path / "gray.png", gray),
        save(tmp_path / "alpha.png", alpha),
        save(tmp_path / "palette.png", picture, "P"),
        save(tmp_path / "gray_alpha.png", alpha, "LA"),
    ]
    for path in made:
        data = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
        assert torch.equal(
            images.read_image(path), decode_image(data, ImageReadMode.RGB)
        ), path.name


def test_gray_and_one_bit(tmp_path, picture):
    gray = picture[..., 0]
    image = images.read_image(save(tmp_path / "gray.png", gray))
    assert torch.equal(image, torch.from_numpy(gray).expand(3, H, W))
    black_white = gray > 60
    image = images.read_image(save(tmp_path / "one.png", black_white))
    assert torch.equal(image[1], torch.from_numpy(black_white).byte() * 255)


def test_alpha_is_dropped_and_hidden_colors_show(tmp_path):
    pixels = np.zeros((1, 2, 4), np.uint8)
    pixels[0, 0] = 200, 100, 50, 0  # fully transparent
    pixels[0, 1] = 10, 20, 30, 128
    image = images.read_image(save(tmp_path / "alpha.png", pixels))
    assert image[:, 0].T.tolist() == [[200, 100, 50], [10, 20, 30]]


@pytest.mark.filterwarnings("error")
def test_palettes_with_and_without_transparency(tmp_path, picture):
    plain = save(tmp_path / "plain.png", picture, "P")
    indexed = Image.open(plain)
    wanted = as_tensor(indexed.convert("RGB"))
    assert torch.equal(images.read_image(plain), wanted)
    for name, clear in (("one.png", 3), ("each.png", bytes(range(0, 250, 5)))):
        indexed.save(tmp_path / name, transparency=clear)
        assert torch.equal(images.read_image(tmp_path / name), wanted)
    indexed.save(tmp_path / "a.gif", transparency=3)
    assert images.read_image(tmp_path / "a.gif").shape == (3, H, W)


def test_cmyk_is_converted(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4, 0] = 255  # cyan ink
    pixels[:, 4:, 3] = 255  # black ink
    for name in ("a.tif", "a.jpg"):
        image = Image.frombytes("CMYK", (8, 8), pixels.tobytes())
        image.save(tmp_path / name, **({"quality": 100} if "jpg" in name else {}))
        read = images.read_image(tmp_path / name).int()
        left = read[:, 4, 1] - torch.tensor([0, 255, 255])
        right = read[:, 4, 6]
        assert read.shape == (3, 8, 8)
        assert left.abs().max() <= 8 and right.abs().max() <= 8, name


def test_sixteen_bits_keep_the_high_byte(tmp_path):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    gray = images.read_image(save(tmp_path / "gray.png", values))
    assert gray[0].tolist() == gray[2].tolist() == [[0, 0, 1, 128, 255]]
    rows = b"\0" + np.repeat(values, 3).astype(">u2").tobytes()
    (tmp_path / "rgb.png").write_bytes(png(5, 1, 16, 2, rows))
    assert torch.equal(images.read_image(tmp_path / "rgb.png"), gray)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_without_a_range_are_refused(tmp_path, mode):
    dtype = np.int32 if mode == "I" else np.float32
    path = save(tmp_path / "a.tif", np.ones((2, 2), dtype))
    with pytest.raises(
        ValueError, match=rf"a\.tif: cannot use pixels of mode '{mode}'"
    ):
        images.read_image(path)


def test_the_first_frame_of_an_animation(tmp_path, picture):
    frames = [Image.fromarray(picture), Image.fromarray(255 - picture)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert torch.equal(images.read_image(tmp_path / "a.png"), as_tensor(picture))


# --- EXIF ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_every_orientation_is_turned_upright(tmp_path, picture, suffix, value):
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path / f"a.{suffix}", picture, exif=exif(value), **options)
    wanted = as_tensor(ImageOps.exif_transpose(Image.open(path)))
    assert images.orientation(path) == value
    assert torch.equal(images.read_image(path), wanted)
    assert images.stored_size(path) == (H, W)
    assert images.upright_size(path) == tuple(wanted.shape[1:])
    assert torch.equal(images.upright(as_tensor(picture), value), wanted)


def test_a_jpeg_on_its_side(tmp_path):
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255  # the right half is white
    path = save(tmp_path / "a.jpg", pixels, exif=exif(6), quality=95)
    image = images.read_image(path)  # 6: turn it a quarter clockwise
    assert image.shape == (3, 32, 16)
    assert image[:, :14].max() < 30 and image[:, 18:].min() > 225


def test_a_mask_turns_as_its_image(tmp_path):
    mask = torch.arange(6).reshape(2, 3)
    assert images.upright(mask, 6).tolist() == [[3, 0], [4, 1], [5, 2]]
    assert images.upright(mask, 8).tolist() == [[2, 5], [1, 4], [0, 3]]
    assert images.upright(mask, 3).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert mask.tolist() == [[0, 1, 2], [3, 4, 5]]
    for value in (0, 9, None):
        with pytest.raises(ValueError, match=f"1 .. 8, got {value}"):
            images.upright(mask, value)


@pytest.mark.parametrize("value", [0, 9, 77])
def test_a_senseless_orientation_is_none(tmp_path, picture, value):
    path = save(tmp_path / "a.png", picture, exif=exif(value))
    assert images.orientation(path) == 1
    assert torch.equal(images.read_image(path), as_tensor(picture))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_is_none(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    junk = b"MM\0*\0\0\0\x08\xff\xff junk"
    chunk = struct.pack(">I", len(junk)) + b"eXIf" + junk
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + junk))
    (tmp_path / "a.png").write_bytes(data[:33] + chunk + data[33:])
    assert images.orientation(tmp_path / "a.png") == 1
    assert torch.equal(images.read_image(tmp_path / "a.png"), as_tensor(picture))


def test_exif_behind_the_pixels_of_a_png(tmp_path, picture):
    """The standard allows it; the header alone does not tell."""
    path = save(tmp_path / "a.png", picture, exif=exif(6))
    data = path.read_bytes()
    at = data.index(b"eXIf") - 4
    end = at + 12 + struct.unpack(">I", data[at : at + 4])[0]
    moved = data[:at] + data[end:-12] + data[at:end] + data[-12:]
    path.write_bytes(moved)
    assert images.upright_size(path) == (W, H)
    assert images.read_image(path).shape == (3, W, H)


def test_sizes_are_read_without_decoding(tmp_path, picture, monkeypatch):
    path = save(tmp_path / "a.png", picture)

    def never(self):
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", never)
    assert images.stored_size(path) == images.upright_size(path) == (H, W)


# --- masks ---------------------------------------------------------------------------


def test_masks_come_as_stored(tmp_path):
    labels = np.array([[0, 1, 2], [5, 200, 255]], np.uint8)
    mask = images.read_mask(save(tmp_path / "gray.png", labels))
    assert mask.dtype == torch.uint8 and mask.tolist() == labels.tolist()
    palette = Image.fromarray(labels).convert("P")
    palette.putpalette(list(range(255, -1, -1)) * 3)
    palette.save(tmp_path / "palette.png")
    assert images.read_mask(tmp_path / "palette.png").tolist() == labels.tolist()


def test_masks_of_more_and_of_fewer_bits(tmp_path):
    wide = np.array([[0, 300, 65535]], np.uint16)
    mask = images.read_mask(save(tmp_path / "wide.png", wide))
    assert mask.dtype == torch.int32 and mask.tolist() == wide.tolist()
    mask = images.read_mask(save(tmp_path / "one.png", np.array([[True, False]])))
    assert mask.dtype == torch.uint8 and mask.tolist() == [[1, 0]]


def test_a_mask_is_not_turned(tmp_path):
    labels = np.array([[0, 1, 2]], np.uint8)
    path = save(tmp_path / "a.png", labels, exif=exif(6))
    assert images.read_mask(path).tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "F"])
def test_masks_with_channels_or_floats_are_refused(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "F" else "a.png")
    save(path, np.zeros((2, 2), np.uint8), mode)
    with pytest.raises(ValueError, match=rf"{path.name}: cannot use .* '{mode}'"):
        images.read_mask(path)


# --- bad files -----------------------------------------------------------------------


@pytest.mark.parametrize("read", [images.read_image, images.read_mask])
def test_damaged_files_are_named(tmp_path, read):
    generator = np.random.default_rng(0)
    gray = generator.integers(0, 256, (64, 64), np.uint8)
    good = io.BytesIO()
    Image.fromarray(gray).save(good, "PNG")
    data = good.getvalue()
    jpeg = io.BytesIO()
    Image.fromarray(gray).save(jpeg, "JPEG")
    huge = png(60000, 60000, 8, 0, b"\0")
    bad = {
        "empty.png": b"",
        "text.png": b"<html>not found</html>",
        "head.png": data[:30],
        "half.png": data[: len(data) // 2],
        "flipped.png": data[:200] + bytes([data[200] ^ 255]) + data[201:],
        "huge.png": huge,
        "half.jpg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=str(tmp_path / name)):
            read(tmp_path / name)


def test_what_is_not_there_is_named(tmp_path):
    for call in (
        images.read_image,
        images.read_mask,
        images.orientation,
        images.stored_size,
        images.upright_size,
    ):
        with pytest.raises(FileNotFoundError, match=r"none\.png"):
            call(tmp_path / "none.png")
    with pytest.raises(ValueError, match=r"b\.png: not an image"):
        (tmp_path / "b.png").write_bytes(b"text")
        images.upright_size(tmp_path / "b.png")
    with pytest.raises(IsADirectoryError):
        images.read_image(tmp_path)
    for path in (None, 3, ["a.png"], io.BytesIO()):
        with pytest.raises(TypeError, match="PathLike"):
            images.read_image(path)
