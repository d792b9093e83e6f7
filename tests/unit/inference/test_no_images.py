import numpy as np
import pytest

from rlsd.errors import EngineError
from rlsd.inference.engine import SamplingRequest, ScoringRequest
from rlsd.inference.server.connection import ServerConnection
from rlsd.inference.sglang.server import SglangServer
from rlsd.inference.vllm.server import VllmServer
from rlsd.policy.vision import Picture

PICTURE = Picture(
    patches_ND=np.zeros((4, 2), dtype=np.float32), grid=(1, 2, 2), num_tokens=1, digest="0"
)


@pytest.mark.parametrize("kind", [VllmServer, SglangServer])
async def test_a_running_server_refuses_a_request_with_pictures(kind):
    server = kind(ServerConnection("http://127.0.0.1:1", max_requests=1, timeout_s=1.0))
    drawing = SamplingRequest(
        prompt_ids=(1,), seed=0, temperature=1.0, top_p=1.0, max_tokens=1, pictures=(PICTURE,)
    )
    scoring = ScoringRequest(prefix_ids=(1,), completion_ids=(2,), pictures=(PICTURE,))
    with pytest.raises(EngineError, match="a running server takes no images; use engine"):
        await server.sample(drawing)
    with pytest.raises(EngineError, match="a running server takes no images; use engine"):
        await server.score(scoring)
