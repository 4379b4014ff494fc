"""An agent made with the official A2A SDK. Prints its gRPC port and serves until its standard input ends."""

import asyncio
import sys

import grpc
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler, GrpcHandler
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2, a2a_pb2_grpc


class Echo(AgentExecutor):
    """Gives back its data in two chunks; asks once where the data says so; fails where the data says so."""

    async def execute(self, context, event_queue):
        if context.current_task is None:
            submitted = a2a_pb2.TaskStatus(state=a2a_pb2.TASK_STATE_SUBMITTED)
            task = a2a_pb2.Task(id=context.task_id, context_id=context.context_id, status=submitted)
            task.history.append(context.message)
            await event_queue.enqueue_event(task)
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        data = context.message.parts[0].data
        fields = data.struct_value.fields
        if "ask" in fields:
            question = updater.new_agent_message([a2a_pb2.Part(text="which one?")])
            await updater.requires_input(question)
        elif "fail" in fields:
            await updater.failed(updater.new_agent_message([a2a_pb2.Part(text="as asked")]))
        else:
            part = a2a_pb2.Part(data=data)
            await updater.add_artifact([part], artifact_id="echo", name="echo")
            await updater.add_artifact([a2a_pb2.Part(text="end")], artifact_id="echo", append=True, last_chunk=True)
            await updater.complete()

    async def cancel(self, context, event_queue):
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    card = a2a_pb2.AgentCard(name="sdk", description="for tests", version="1")
    card.capabilities.streaming = True
    card.supported_interfaces.add(url=f"127.0.0.1:{port}", protocol_binding="GRPC", protocol_version="1.0")
    handler = DefaultRequestHandler(agent_executor=Echo(), task_store=InMemoryTaskStore(), agent_card=card)
    a2a_pb2_grpc.add_A2AServiceServicer_to_server(GrpcHandler(handler), server)
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=0)


asyncio.run(main())
