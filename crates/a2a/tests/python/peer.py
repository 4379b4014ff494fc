"""Talks to an agent with the official A2A SDK and prints what it saw as one JSON object.

Usage: peer.py http://host:port TOKEN
"""

import asyncio
import json
import sys

import grpc
import httpx
from a2a.client import A2ACardResolver, A2AClientError, ClientCallContext, ClientConfig, ClientFactory
from a2a.types import a2a_pb2, a2a_pb2_grpc
from a2a.utils.errors import A2AError
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict
from google.rpc import error_details_pb2, status_pb2


def request(message_id, skill, data, task_id=""):
    message = a2a_pb2.Message(message_id=message_id, task_id=task_id, role=a2a_pb2.ROLE_USER)
    value = struct_pb2.Value()
    # An empty object would otherwise be no value at all.
    value.struct_value.SetInParent()
    value.struct_value.update(data)
    message.parts.add().data.CopyFrom(value)
    message.metadata.update({"skill": skill})
    return a2a_pb2.SendMessageRequest(message=message)


def state(task):
    return a2a_pb2.TaskState.Name(task.status.state)


def artifacts(task):
    return {artifact.artifact_id: [MessageToDict(part) for part in artifact.parts] for artifact in task.artifacts}


async def last_task(client, message, context):
    async for event in client.send_message(message, context=context):
        last = event
    return last.task


async def refused(call):
    """The code, the message and the details of a call that must fail."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        found = {"code": error.code().name, "message": error.details()}
        for key, value in error.trailing_metadata():
            if key != "grpc-status-details-bin":
                continue
            for detail in status_pb2.Status.FromString(value).details:
                for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest):
                    if detail.Is(kind.DESCRIPTOR):
                        unpacked = kind()
                        detail.Unpack(unpacked)
                        found[kind.DESCRIPTOR.name] = MessageToDict(unpacked)
        return found
    raise AssertionError("the call was not refused")


async def raised(call):
    """The class that the SDK makes of an error."""
    try:
        await call
    except A2AError as error:
        return type(error).__name__
    raise AssertionError("the call was not refused")


async def main(base_url, token):
    seen = {}
    async with httpx.AsyncClient(trust_env=False) as http:
        card = await A2ACardResolver(http, base_url).get_agent_card()
    seen["card"] = {
        "name": card.name,
        "skills": [skill.id for skill in card.skills],
        "interface": MessageToDict(card.supported_interfaces[0]),
        "schemes": {name: scheme.WhichOneof("scheme") for name, scheme in card.security_schemes.items()},
    }

    context = ClientCallContext(timeout=20, service_parameters={"authorization": f"Bearer {token}"})
    settings = {"grpc_channel_factory": grpc.aio.insecure_channel, "supported_protocol_bindings": ["GRPC"]}
    plain = ClientFactory(ClientConfig(streaming=False, **settings)).create(card)
    streaming = ClientFactory(ClientConfig(streaming=True, **settings)).create(card)

    task = await last_task(plain, request("p1", "echo", {"n": 7, "f": 0.5, "deep": {"list": [1, None]}}), context)
    seen["sent"] = {"state": state(task), "artifacts": artifacts(task)}
    again = await last_task(plain, request("p1", "echo", {"n": 7, "f": 0.5, "deep": {"list": [1, None]}}), context)
    seen["sent_again_is_the_same_task"] = again.id == task.id

    seen["streamed"] = []
    async for event in streaming.send_message(request("p2", "echo", {}), context=context):
        kind = event.WhichOneof("payload")
        seen["streamed"].append(kind)
        last = event
    seen["streamed_last_state"] = state(last.status_update)

    got = await plain.get_task(a2a_pb2.GetTaskRequest(id=task.id, history_length=0), context=context)
    seen["got"] = {"state": state(got), "history": len(got.history), "same": artifacts(got) == artifacts(task)}
    listed = await plain.list_tasks(a2a_pb2.ListTasksRequest(page_size=1), context=context)
    seen["listed"] = {"total": listed.total_size, "page": len(listed.tasks), "more": bool(listed.next_page_token)}

    asked = await last_task(plain, request("p3", "ask", {}), context)
    answer = request("p4", "ask", {"decision": "approve"}, asked.id)
    done = await last_task(plain, answer, context)
    seen["asked"] = [state(asked), state(done), asked.id == done.id]

    waiting = request("p5", "gated", {})
    waiting.configuration.return_immediately = True
    waiting = await last_task(plain, waiting, context)
    subscribed = streaming.subscribe(a2a_pb2.SubscribeToTaskRequest(id=waiting.id), context=context)
    first = await anext(subscribed)
    canceled = await plain.cancel_task(a2a_pb2.CancelTaskRequest(id=waiting.id), context=context)
    async for event in subscribed:
        last = event
    seen["canceled"] = [first.WhichOneof("payload"), state(canceled), state(last.status_update)]

    unknown = a2a_pb2.GetTaskRequest(id="unknown")
    seen["raised"] = [
        await raised(plain.get_task(unknown, context=context)),
        await raised(plain.cancel_task(a2a_pb2.CancelTaskRequest(id=task.id), context=context)),
        await raised(plain.create_task_push_notification_config(a2a_pb2.TaskPushNotificationConfig(), context=context)),
        await raised(last_task(plain, a2a_pb2.SendMessageRequest(), context)),
    ]
    assert seen["raised"][3] == A2AClientError.__name__

    good = [("a2a-version", "1.0"), ("authorization", f"Bearer {token}")]
    async with grpc.aio.insecure_channel(card.supported_interfaces[0].url) as channel:
        stub = a2a_pb2_grpc.A2AServiceStub(channel)
        seen["refused"] = {
            "unknown": await refused(stub.GetTask(unknown, metadata=good)),
            "invalid": await refused(stub.SendMessage(request("p1", "echo", {"n": 8}), metadata=good)),
            "version": await refused(stub.GetTask(unknown, metadata=good[1:])),
            "token": await refused(stub.GetTask(unknown, metadata=good[:1])),
        }
    await plain.close()
    await streaming.close()
    print(json.dumps(seen))


asyncio.run(main(*sys.argv[1:]))
