"""Hands in an incident over A2A, follows it, reads the plan, approves it by its digest, and sees it end.

pip install 'a2a-sdk[grpc]==1.3.0'; python submit_task.py 127.0.0.1:50051
"""

import asyncio
import os
import sys
import uuid

import grpc
from a2a.types import a2a_pb2, a2a_pb2_grpc
from google.protobuf.json_format import MessageToDict, ParseDict


def request(message_id, data, task_id="", wait=True):
    message = {"messageId": message_id, "taskId": task_id, "role": "ROLE_USER", "parts": [{"data": data}]}
    configuration = {"returnImmediately": not wait}
    return ParseDict({"message": message, "configuration": configuration}, a2a_pb2.SendMessageRequest())


async def main(address):
    metadata = [("a2a-version", "1.0")]
    if token := os.environ.get("QUELL_TOKEN"):
        metadata.append(("authorization", f"Bearer {token}"))
    draft = {"schema": "quell/incident-draft/v1", "title": "Mails are sent an hour late", "severity": "high",
             "service": "email-service", "affected_systems": ["email-service"]}
    async with grpc.aio.insecure_channel(address) as channel:
        agent = a2a_pb2_grpc.A2AServiceStub(channel)
        # The same id is the same task: after an error the message may be sent again.
        message_id = str(uuid.uuid4())
        async for event in agent.SendStreamingMessage(request(f"{message_id}/open", draft), metadata=metadata):
            kind = event.WhichOneof("payload")
            told = MessageToDict(getattr(event, kind))
            if kind == "artifact_update":
                print(f"{told['artifact']['artifactId']}: {told['artifact']['parts']}")
                continue
            task_id = told.get("taskId") or told["id"]
            text, data = (part for part in told["status"]["message"]["parts"])
            print(f"{told['status']['state']}: {text['text']}")
            question = data["data"].get("question") or {}
            if told["status"]["state"] == "TASK_STATE_INPUT_REQUIRED" and question.get("plan_digest"):
                approval = {"schema": "quell/decision/v1", "decision": "approve", "plan_digest": question["plan_digest"]}
                await agent.SendMessage(request(f"{message_id}/approve", approval, task_id, wait=False), metadata=metadata)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"))
