"""The emulator, driven by the official `openai` client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openai
import pytest

from octoremix.testing import PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from octoremix.testing.threaded import ThreadedEmulator

# The client says so of each of these calls: OpenAI's own service behind them has an end.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The Sora API is scheduled:DeprecationWarning"),
    pytest.mark.octoremix_gateway(duration=0),
]


@pytest.fixture
def client(octoremix_gateway: ThreadedEmulator) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key=octoremix_gateway.api_key,
        base_url=f"{octoremix_gateway.url}/v1",
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as client:
        yield client


@pytest.mark.parametrize(
    "profile",
    [pytest.param(name, marks=pytest.mark.octoremix_gateway(profile=name)) for name in PROFILES],
)
def test_the_official_client_makes_a_remix(
    octoremix_gateway: ThreadedEmulator, client: openai.OpenAI, profile: str
) -> None:
    """It creates a video, asks for it, remixes it and downloads the result, in each dialect."""
    source = client.videos.create(prompt="a town", model="sora-2", seconds="4", size="1280x720")
    done = client.videos.retrieve(source.id)
    remix = client.videos.remix(
        source.id, prompt="make it snow", extra_body={"model": "veo_3_1-extend", "aspect": "9:16"}
    )
    result = client.videos.retrieve(remix.id)
    content = client.videos.download_content(remix.id).read()

    # The client doesn't look at what it is told: rc30 has words of its own, and no id in `id`.
    finished = "SUCCESS" if profile == "rc30" else "completed"
    assert (done.status, result.status) == (finished, finished)
    assert content[4:8] == b"ftyp"
    books = octoremix_gateway.books
    books.assert_charged_once(2)
    made, remixed = (job.request for job in books.jobs)
    assert (made.source_id, made.prompt, made.model) == (None, "a town", "sora-2")
    assert made.body["seconds"] == "4"
    assert (remixed.source_id, remixed.prompt) == (source.id, "make it snow")
    assert (remixed.model, remixed.body["aspect"]) == ("veo_3_1-extend", "9:16")


@pytest.mark.octoremix_gateway(outcome="failed", sources=[])
def test_the_official_client_reads_the_failure(
    octoremix_gateway: ThreadedEmulator, client: openai.OpenAI
) -> None:
    """A job that fails, and calls that are refused, come to its user with their reasons."""
    job = client.videos.create(prompt="a town", model="sora-2")
    assert client.videos.retrieve(job.id).status == "failed"
    with pytest.raises(openai.BadRequestError, match="Model name not specified"):
        client.videos.create(prompt="a town")
    with pytest.raises(openai.BadRequestError) as refused:
        client.videos.retrieve("video_of_nobody/../x")
    assert refused.value.code == "task_not_exist"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-else").videos.retrieve(job.id)
    assert octoremix_gateway.books.refunded == 1
