from __future__ import annotations

import dataclasses

import pytest

import rlsd.objectives
from rlsd.objectives import (
    PRESETS,
    CreditKind,
    Reduction,
    StudentSource,
    SurrogateKind,
    ZeroVariance,
    method_named,
)
from rlsd.trajectory import PrivilegedSource, TeacherNeed

MODULES = (
    "advantages",
    "credit",
    "divergences",
    "loss",
    "methods",
    "metrics",
    "mismatch",
    "reductions",
    "schedules",
    "surrogates",
)


def isort_key(name):
    return (not name.isupper(), not name[0].isupper(), name)


def test_the_package_exports_every_public_name_in_order():
    defined = {"PRESETS"}
    for module in (getattr(rlsd.objectives, name) for name in MODULES):
        defined |= {
            name
            for name, value in vars(module).items()
            if getattr(value, "__module__", None) == module.__name__ and not name.startswith("_")
        }
    assert rlsd.objectives.__all__ == sorted(defined, key=isort_key)


def test_the_presets_are_the_ten_methods():
    assert list(PRESETS) == [
        *("grpo", "dr_grpo", "dapo", "gspo", "cispo", "rlsd", "opsd", "grpo+opsd", "sdpo", "opd")
    ]


def test_rlsd_is_grpo_with_token_credit():
    assert method_named("rlsd", credit="none") == method_named("grpo")
    rlsd_method = method_named("rlsd")
    assert (rlsd_method.lam, rlsd_method.eps_w, rlsd_method.decay_steps) == (0.5, 0.2, 50)
    assert rlsd_method.student_source is StudentSource.OLD
    assert (rlsd_method.clip_low, rlsd_method.clip_high, rlsd_method.dual_clip) == (0.2, 0.28, 3)
    assert rlsd_method.reduction is Reduction.TOKEN_MEAN


@pytest.mark.parametrize(
    ("name", "teacher", "privileged", "zero_variance"),
    [
        ("grpo", "none", "reference", "reject"),
        ("dr_grpo", "none", "reference", "reject"),
        ("dapo", "none", "reference", "resample"),
        ("gspo", "none", "reference", "reject"),
        ("cispo", "none", "reference", "reject"),
        ("rlsd", "sampled", "reference", "reject"),
        ("opsd", "teacher_support", "reference", "keep"),
        ("grpo+opsd", "teacher_support", "reference", "keep"),
        ("sdpo", "student_support", "sibling", "keep"),
        ("opd", "sampled", "none", "keep"),
    ],
)
def test_a_preset_says_what_it_needs(name, teacher, privileged, zero_variance):
    method = method_named(name)
    assert method.teacher is TeacherNeed(teacher)
    assert method.privileged is PrivilegedSource(privileged)
    assert method.zero_variance is ZeroVariance(zero_variance)


def test_a_sampled_divergence_needs_no_support():
    assert method_named("opsd", divergence="sampled").teacher is TeacherNeed.SAMPLED


def test_an_override_may_be_text_or_a_member():
    by_text = method_named("rlsd", student_source="current", surrogate="gspo_token")
    assert by_text.student_source is StudentSource.CURRENT
    assert by_text.surrogate is SurrogateKind.GSPO_TOKEN
    assert by_text == method_named(
        "rlsd", student_source=StudentSource.CURRENT, surrogate=SurrogateKind.GSPO_TOKEN
    )


def test_the_release_of_rlsd_is_two_overrides_away():
    release = method_named("rlsd", decay_steps=60, student_source="current")
    changed = {
        f.name
        for f in dataclasses.fields(release)
        if getattr(release, f.name) != getattr(method_named("rlsd"), f.name)
    }
    assert changed == {"decay_steps", "student_source"}


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("rlsdd", {}, "no method 'rlsdd'; the methods are grpo, .*rlsd, .*opd"),
        ("rlsd", {"lamda": 0.5}, "no field 'lamda'; the fields are .*lam, eps_w"),
        ("rlsd", {"credit": "magic"}, "credit is 'magic'; the choices are none, rlsd"),
        ("rlsd", {"lam": 1.5}, "lam is 1.5"),
        ("rlsd", {"eps_w": -0.1}, "eps_w is -0.1"),
        ("rlsd", {"decay_steps": -1}, "decay_steps is -1"),
        ("grpo", {"clip_low": 0.0}, "clip_low is 0.0"),
        ("grpo", {"dual_clip": 1.0}, "dual_clip is 1.0"),
        ("grpo", {"ddof": 2}, "ddof is 2"),
        ("gspo", {"credit": "rlsd"}, "use surrogate 'gspo_token'"),
        ("opd", {"mismatch": "token_tis"}, "use mismatch 'none'"),
        ("opsd", {"divergence": "none"}, "nothing would be learned"),
    ],
)
def test_a_bad_choice_is_refused_by_name(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        method_named(name, **overrides)


def test_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["grpo"] = method_named("rlsd")
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["grpo"].credit = CreditKind.RLSD
