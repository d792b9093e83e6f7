"""What is recorded of others' exporters, vLLM's, SGLang's and DCGM's, in one form."""

from __future__ import annotations


def _either(vllm: str, sglang: str) -> str:
    """The same quantity of both engines, told apart by `engine`."""
    parts = [
        f'label_replace({" ".join(expr.split())}, "engine", "{engine}", "", "")'
        for engine, expr in (("vllm", vllm), ("sglang", sglang))
    ]
    return "\n  or ".join(parts)


def _named(name: str) -> str:
    """A metric of an engine by its name, `vllm:num_requests_running`.

    Older Prometheis (2.x) are given `vllm_num_requests_running` by the Python client.
    """
    return f'{{__name__=~"{name.replace(":", "[:_]")}"}}'


def _p95(name: str) -> str:
    rates = f"rate({_named(f'{name}_bucket')}[<5m>])"
    return f"histogram_quantile(0.95, sum by (run, pod, le) ({rates}))"


def _each(name: str) -> str:
    return f"sum by (run, pod) ({_named(name)})"


def _largest(name: str) -> str:
    return f"max by (run, pod) ({_named(name)})"


def _rate(name: str) -> str:
    return f"sum by (run, pod) (rate({_named(name)}[<5m>]))"


def _gpu(name: str, factor: str) -> str:
    """A series of DCGM's exporter, of the pods of runs alone.

    The exporter names the pod that has the device `exported_pod` unless its monitor honours labels.
    Replicas on Ray share a pod and are `POD/REPLICA` here; whose its devices are nobody can say.
    """
    pod = f'label_replace({name}, "pod", "$1", "exported_pod", "(.+)")'
    namespaced = f'label_replace({pod}, "namespace", "$1", "exported_namespace", "(.+)")'
    replicas = 'label_replace(rlsd_build_info{pod=~".+/.+"}, "node", "$1", "pod", "(.+)/.+")'
    nodes = f'label_replace(max by (namespace, node, run) ({replicas}), "service", "ray", "", "")'
    return f"""
        max by (namespace, pod, gpu) ({namespaced}) * {factor}
          * on (namespace, pod) group_left (run, service) (
            max by (namespace, pod, run, service) (rlsd_build_info)
              or label_replace({nodes}, "pod", "$1", "node", "(.+)"))"""


ENGINES = {
    "rlsd:engine_requests_running": _either(
        _each("vllm:num_requests_running"), _each("sglang:num_running_reqs")
    ),
    "rlsd:engine_requests_waiting": _either(
        _each("vllm:num_requests_waiting"), _each("sglang:num_queue_reqs")
    ),
    "rlsd:engine_cache_usage:ratio": _either(
        _largest("vllm:kv_cache_usage_perc"), _largest("sglang:token_usage")
    ),
    "rlsd:engine_generated_tokens:rate5m": _either(
        _rate("vllm:generation_tokens_total"), _rate("sglang:generation_tokens_total")
    ),
    "rlsd:engine_prompt_tokens:rate5m": _either(
        _rate("vllm:prompt_tokens_total"), _rate("sglang:prompt_tokens_total")
    ),
    "rlsd:engine_prefix_hits:ratio": _either(
        f"{_rate('vllm:prefix_cache_hits_total')} / {_rate('vllm:prefix_cache_queries_total')}",
        _largest("sglang:cache_hit_rate"),
    ),
    "rlsd:engine_preempted_requests": _either(
        f"sum by (run, pod) (increase({_named('vllm:num_preemptions_total')}[<5m>]))",
        _each("sglang:num_retracted_reqs"),
    ),
    "rlsd:engine_first_token_seconds:p95_5m": _either(
        _p95("vllm:time_to_first_token_seconds"), _p95("sglang:time_to_first_token_seconds")
    ),
    "rlsd:engine_between_tokens_seconds:p95_5m": _either(
        _p95("vllm:inter_token_latency_seconds"), _p95("sglang:inter_token_latency_seconds")
    ),
    "rlsd:engine_request_seconds:p95_5m": _either(
        _p95("vllm:e2e_request_latency_seconds"), _p95("sglang:e2e_request_latency_seconds")
    ),
    "rlsd:gpu_busy:ratio": _gpu("DCGM_FI_DEV_GPU_UTIL", "0.01"),
    "rlsd:gpu_sm_active:ratio": _gpu("DCGM_FI_PROF_SM_ACTIVE", "1"),
    "rlsd:gpu_memory_used:bytes": _gpu("DCGM_FI_DEV_FB_USED", "1048576"),
}
