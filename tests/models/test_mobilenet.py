from convnets.models import create_model
from convnets.summary import summarize

from .shapes import endpoint_sizes


def test_sizes_of_version_2():
    sizes = endpoint_sizes("mobilenet_v2")
    assert list(sizes) == ["stem", *(f"stage{number}" for number in range(1, 8)), "last"]
    assert [size[0] for size in sizes.values()] == [112, 112, 56, 28, 14, 14, 7, 7, 7]
    assert [size[2] for size in sizes.values()] == [32, 16, 24, 32, 64, 96, 160, 320, 1280]


def test_sizes_of_version_3():
    large, small = endpoint_sizes("mobilenet_v3_large"), endpoint_sizes("mobilenet_v3_small")
    assert [size[0] for size in large.values()] == [112, 112, 56, 28, 14, 14, 7, 7]
    assert [size[2] for size in large.values()] == [16, 16, 24, 40, 80, 112, 160, 960]
    assert [size[0] for size in small.values()] == [112, 56, 28, 14, 14, 7, 7]
    assert [size[2] for size in small.values()] == [16, 16, 24, 40, 48, 96, 576]


def test_multiply_adds_are_the_papers():
    """300 million, 219 million and 56 million."""
    for name, millions in (
        ("mobilenet_v2", 300),
        ("mobilenet_v3_large", 219),
        ("mobilenet_v3_small", 56),
    ):
        summary = summarize(create_model(name), (224, 224, 3))
        assert abs(summary.multiply_adds / 1e6 - millions) < 0.02 * millions
