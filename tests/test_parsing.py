import pytest

from convnets import parsing
from convnets.errors import UserError
from convnets.training.options import TrainingOptions


@pytest.mark.parametrize("text", ["32x32", "32x32x0", "axbxc", "32X32X3", ""])
def test_what_is_no_shape_is_refused(text):
    with pytest.raises(UserError, match="HEIGHTxWIDTHxCHANNELS"):
        parsing.read_image_shape(text)


@pytest.mark.parametrize("text", ["bets", "-1", "1.5", ""])
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(UserError, match="last, best or a step"):
        parsing.read_checkpoint(text)


def test_only_a_resumed_training_has_other_defaults():
    expected = (parsing.RunOptions(), TrainingOptions())
    for args in (["train"], ["train", "--resume"], ["models", "--resume", "--workdir", "/x"]):
        assert parsing.train_defaults(args) == expected
