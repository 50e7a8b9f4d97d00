"""All checks together, on a sound set-up and a broken one, from Python and from the shell."""

import flax.linen as nn
import numpy as np
import pytest

from convnets import cli, doctor
from convnets.errors import UserError

from ..shell import refused
from ..small_runs import LINEAR, few_digits

OPTIONS = {"batch_size": 24, "augment": (), "devices": 1, "trial_steps": 40, "epochs": 30}


def test_every_check_is_made_of_a_sound_set_up():
    findings = doctor.examine(LINEAR, few_digits(), **OPTIONS)
    assert list(dict.fromkeys(finding.check for finding in findings)) == list(doctor.CHECKS)
    assert not [finding for finding in findings if finding.verdict in ("wrong", "not checked")]
    assert all(np.isfinite(finding.value) for finding in findings)


class Unlike(nn.Module):
    """Draws its weights by NumPy, and breaks at test."""

    @nn.compact
    def __call__(self, images, *, train: bool):
        if not train and not self.is_initializing():
            raise RuntimeError("at test it breaks")
        noise = np.random.default_rng().normal(size=(1, 10)).astype(np.float32)
        return nn.Dense(10)(images.reshape(len(images), -1)) + noise


def test_what_breaks_a_check_is_said_and_chance_is_found():
    checks = ("reproduce", "collapse")
    findings = doctor.examine(Unlike(), few_digits(), checks=checks, **OPTIONS)
    collapse, reproduce = findings
    assert (collapse.check, collapse.verdict) == ("collapse", "not checked")
    assert "RuntimeError: at test it breaks" in collapse.found
    assert (reproduce.check, reproduce.verdict) == ("reproduce", "wrong")
    with pytest.raises(UserError, match="unknown check 'gradient'; did you mean 'gradients'"):
        doctor.examine(LINEAR, few_digits(), checks="gradient")
    with pytest.raises(UserError, match="at least 1 step, not 0"):
        doctor.examine(LINEAR, few_digits(), **OPTIONS | {"trial_steps": 0})


def test_the_command_looks_at_options_and_at_a_run(tmp_path, capsys):
    words = ["--model", "linear", "--checks", "data", "collapse", "--augment", "none"]
    assert cli.main(["doctor", *words, "--steps", "200"]) == 0
    shown = capsys.readouterr().out
    assert "data: leakage" in shown
    assert "0 wrong" in shown
    run = str(tmp_path / "run")
    train = ["--model", "linear", "--steps", "4", "--workdir", run, "--learning-rate", "1e30"]
    cli.main(["train", *train])
    capsys.readouterr()
    assert cli.main(["doctor", "--workdir", run, "--checks", "rate"]) == 1
    assert "mend rate first" in capsys.readouterr().out
    assert "has its own model" in refused(capsys, "doctor", "--workdir", run, "--model", "mlp")
