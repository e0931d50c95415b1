"""The final status of a job is sent to its callback_url, however the job ends."""

from __future__ import annotations

from standardwebhooks import Webhook

from tests.support.receiver import Receiver
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import table
from tests.support.waiting import eventually
from tests.support.webhooks import SECRET


def test_the_final_status_of_every_job_is_sent_once(
    start_stack: StartStack, receiver: Receiver
) -> None:
    stack = start_stack(workers=1, WEBHOOK_SECRETS=SECRET, WEBHOOK_ALLOW_PRIVATE="true")
    jobs = _jobs_of_all_ends(stack, receiver.url)
    statuses = {job: stack.wait(job) for job in jobs}
    ends = {status["status"] for status in statuses.values()}
    assert ends == {"finished", "failed", "canceled"}

    eventually(lambda: len(receiver.requests) >= len(jobs))
    sent = [
        Webhook(SECRET).verify(body, headers) for _, headers, body in receiver.requests
    ]
    assert {status["id"]: status for status in sent} == statuses
    assert len(sent) == len(jobs)
    stack.stop()


def _jobs_of_all_ends(stack: Stack, url: str) -> list[str]:
    with stack.frozen():
        fit = stack.fit(table(100, 3), callback_url=url)
        failing = stack.fit(table(100, 3).assign(y="one"), callback_url=url)
        rows = stack.upload(table(100, 3))
        predict = submitted(
            stack.post("/predict", dataset_id=rows, model_id=fit, callback_url=url)
        )
        orphan = submitted(
            stack.post("/predict", dataset_id=rows, model_id=failing, callback_url=url)
        )
        canceled = stack.fit(table(100, 3), callback_url=url)
        stack.post("/cancel", id=canceled).raise_for_status()
    return [fit, failing, predict, orphan, canceled]


def test_a_private_address_is_refused(stack: Stack) -> None:
    answer = stack.post(
        "/fit", id=stack.upload(table(100, 3)), callback_url="http://127.0.0.1:1/"
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "callback_url" in answer.json()["detail"]
