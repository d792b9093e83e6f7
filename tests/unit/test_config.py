import pytest

from rlsd.config import Addresses, load, named_redis_url
from rlsd.errors import ConfigError

MINIMAL = '[model]\npath = "m"\n[data]\ntrain = "t.jsonl"\n'


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(MINIMAL)
    return path


def test_a_minimal_file_gets_the_vetted_defaults(file):
    config = load(file)
    assert (config.run.max_staleness, config.rollout.group_size) == (0, 8)
    assert config.method.overrides() == {}


def test_an_unknown_key_is_named_with_the_one_that_was_meant(file):
    file.write_text(MINIMAL + "[run]\nstep = 3\n")
    with pytest.raises(ConfigError, match=r"run\.step: unknown key; did you mean 'steps'\?"):
        load(file)


def test_an_unknown_section_lists_the_known_ones(file):
    file.write_text(MINIMAL + "[zzz]\nx = 3\n")
    with pytest.raises(ConfigError, match="zzz: unknown key; known keys: data, evaluation"):
        load(file)


def test_a_missing_key_is_named(file):
    file.write_text('[data]\ntrain = "t"\n')
    with pytest.raises(ConfigError, match="model: missing; add it"):
        load(file)


def test_a_value_out_of_range_is_named_with_what_was_given(file):
    with pytest.raises(ConfigError, match=r"run\.steps: .*greater than or equal to 1, got 0"):
        load(file, ["run.steps=0"])


def test_overrides_are_toml_or_plain_text(file):
    config = load(file, ["run.steps=7", "method.name=grpo", "learner.betas=[0.9, 0.95]"])
    assert (config.run.steps, config.method.name) == (7, "grpo")
    assert config.learner.betas == (0.9, 0.95)


def test_an_override_without_a_value_says_how_to_write_it(file):
    with pytest.raises(ConfigError, match=r"write it as section\.key=value"):
        load(file, ["steps"])


def test_a_file_that_is_not_there_or_not_toml_is_one_line(file, tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load(tmp_path / "none.toml")
    file.write_text("[run\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load(file)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["{}.engine=sglang"], "engine 'sglang' is a running server: give its engine_url"),
        (['{}.engine_url="http://s"'], "engine 'transformers' has no engine_url"),
        (
            ["{}.engine=vllm", '{}.engine_url="http://s"', "{}.engine_args={{max_model_len=9}}"],
            "engine_args are of an engine in this process",
        ),
    ],
)
@pytest.mark.parametrize("section", ["rollout", "teacher"])
def test_an_engine_is_asked_where_it_can_be(file, section, keys, message):
    with pytest.raises(ConfigError, match=f"{section}: value error, {message}"):
        load(file, [key.format(section) for key in keys])


def test_rollout_and_teacher_do_not_share_a_server(file):
    keys = ["rollout.engine=vllm", "teacher.engine=vllm", 'rollout.engine_url="http://a:1"']
    load(file, [*keys, 'teacher.engine_url="http://b:1"'])
    with pytest.raises(ConfigError, match="are one server"):
        load(file, [*keys, 'teacher.engine_url="http://a:1"'])


@pytest.mark.parametrize(
    "engine", [["teacher.engine=vllm"], ["teacher.engine=sglang", 'teacher.engine_url="http://s"']]
)
def test_an_engine_scores_at_temperature_one_only(file, engine):
    assert load(file, engine).rollout.temperature == 1
    with pytest.raises(ConfigError, match=r"rollout\.temperature is 0\.7.*'transformers'"):
        load(file, [*engine, "rollout.temperature=0.7"])
    assert load(file, ["rollout.temperature=0.7"]).teacher.engine == "transformers"


def test_a_teacher_template_needs_both_fields(file):
    with pytest.raises(ConfigError, match=r"template must contain \{privileged\}"):
        load(file, ['teacher.template="{prompt}"'])


def test_addresses_come_from_the_environment():
    addresses = Addresses.from_environment({"RLSD_REDIS_URL": "redis://r", "HOME": "/"})
    assert (addresses.redis_url, addresses.teacher) == ("redis://r", "127.0.0.1:50053")


TOOL = """
[tools.use.lookup]
kind = "http"
url = "https://tools.example.com/"
description = "The value of a key."
parameters = {type = "object", properties = {key = {type = "string"}}}
"""
CHECK = """
[tools.use.run]
kind = "verifier"
description = "Runs a program."
verifier = "code"
argument = "program"
"""


def test_tools_are_functions_as_chat_templates_take_them(file):
    file.write_text(MINIMAL + TOOL + CHECK)
    lookup, run = load(file).tools.functions()
    assert lookup["function"]["parameters"]["properties"] == {"key": {"type": "string"}}
    assert run == {
        "type": "function",
        "function": {
            "name": "run",
            "description": "Runs a program.",
            "parameters": {
                "type": "object",
                "properties": {"program": {"type": "string"}},
                "required": ["program"],
                "additionalProperties": False,
            },
        },
    }


def test_without_tools_there_are_none(file):
    assert load(file).tools.functions() == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (TOOL.replace("http", "smtp", 1), r"tools\.use\.lookup"),
        (TOOL.replace("lookup", '"look up"'), "look up"),
        (TOOL + "timeot_s = 3\n", "timeot_s"),
        ("[tools]\nmax_turns = 1\n" + TOOL, r"tools\.max_turns: .*greater than or equal to 2"),
        (CHECK + '[verifier]\nkinds = ["math"]\n', r"tools\.use\.run asks the verifier for 'code'"),
    ],
)
def test_a_wrong_tool_is_named(file, text, why):
    file.write_text(MINIMAL + text)
    with pytest.raises(ConfigError, match=why) as raised:
        load(file)
    assert "\n" not in str(raised.value)


def test_the_url_of_redis_may_stand_in_a_file(tmp_path):
    path = tmp_path / "url"
    path.write_text("redis://:secret@r\n")
    given = {"RLSD_REDIS_URL": "redis://other", "RLSD_REDIS_URL_FILE": str(path)}
    assert Addresses.from_environment(given).redis_url == "redis://:secret@r"
    path.unlink()
    with pytest.raises(ConfigError, match=r"RLSD_REDIS_URL_FILE .*url: cannot be read"):
        Addresses.from_environment(given)


def test_a_redis_is_named_by_a_file_before_a_variable_or_not_at_all(tmp_path):
    (tmp_path / "url").write_text("redis://:secret@there\n")
    both = {"RLSD_REDIS_URL": "redis://other", "RLSD_REDIS_URL_FILE": str(tmp_path / "url")}
    assert named_redis_url(both) == "redis://:secret@there"
    assert named_redis_url({"RLSD_REDIS_URL": "redis://other"}) == "redis://other"
    assert named_redis_url({}) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('url = "http://b/p"', r"weights\.url"),
        ('url = "s3://"', r"weights\.url"),
        ('url = "s3://key:secret@b/p"', r"weights\.url"),
        ('region = "eu"', "give its url"),
        ('url = "s3://bucket"\ntimeout_s = 600', r"weights\.timeout_s"),
    ],
)
def test_a_wrong_weight_store_is_named(file, text, why):
    file.write_text(MINIMAL + f"[weights]\n{text}\n")
    with pytest.raises(ConfigError, match=why):
        load(file)


@pytest.mark.parametrize("url", ["", "s3://bucket", "s3://my.bucket-1/team/a b/c"])
def test_a_weight_store_is_a_bucket_and_perhaps_a_prefix(file, url):
    file.write_text(MINIMAL + f'[weights]\nurl = "{url}"\n')
    assert load(file).weights.url == url
