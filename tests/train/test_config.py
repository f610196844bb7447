from __future__ import annotations

import pytest

from scenc.train import TrainConfig


@pytest.mark.parametrize(
    "name", ["max_epochs", "batch_size", "accumulate_grad_batches", "patience"]
)
def test_numbers_of_things_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        TrainConfig(**{name: 0})


@pytest.mark.parametrize(
    "name", ["lr", "weight_decay", "gradient_clip", "warmup_steps", "min_lr_ratio"]
)
@pytest.mark.parametrize("value", [-1, float("nan")])
def test_amounts_must_not_be_negative(name, value):
    with pytest.raises(ValueError, match=f"{name} must not be negative"):
        TrainConfig(**{name: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_fraction": 0}, "mask_fraction"),
        ({"mask_fraction": 1.5}, "mask_fraction"),
        ({"validate_every": 0}, "validate_every"),
        ({"validation_size": -0.1}, "validation_size"),
        ({"validation_size": 0.5, "test_size": 0.5}, "leave cells to train on"),
    ],
)
def test_values_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**settings)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(TypeError, match=r"'learning_rte'"):
        TrainConfig.from_dict({"learning_rte": 1})
    with pytest.raises(TypeError, match=r"'batchsize'.*Did you mean 'batch_size'"):
        TrainConfig.from_dict({"batchsize": 1})


def test_later_settings_are_left_out_at_their_default():
    assert "decoder_steps" not in TrainConfig().to_dict()
    changed = TrainConfig(decoder_steps=3)
    assert changed.to_dict()["decoder_steps"] == 3
    for config in (TrainConfig(), changed):
        assert TrainConfig.from_dict(config.to_dict()) == config
