"""PROTOTYPE, not committed."""

from __future__ import annotations
import asyncio, hashlib, json, secrets, uuid
from dataclasses import dataclass
from typing import Any
from fanfold.engine import store
from fanfold.engine.errors import SqsError
from fanfold.engine.doorbell import Doorbell
from fanfold.engine.polling import LongPolls, Look, Source
from fanfold.model import Message
from fanfold.clock import SystemClock


@dataclass(frozen=True, slots=True)
class CallContext:
    base_url: str
    trace_header: str | None = None
    rights: Any = None


class SqsEngine:
    def __init__(self, database, *, clock=None, region="us-east-1", recreate_delay=True, account="000000000000"):
        self.db = database
        self.clock = clock or SystemClock()
        self.region = region
        self.account = account
        self.bell = Doorbell(database)
        self.polls = LongPolls(self.bell, self.clock)
        self.opened = False
        self.attrs = {}

    async def open(self):
        def prep():
            with self.db.opening():
                self.db.migrate("engine", store.SCHEMA)

        await asyncio.to_thread(prep)
        self.opened = True

    async def close(self):
        if self.opened:
            self.opened = False
            self.end_polls()
            await asyncio.to_thread(self.bell.close)
            await asyncio.to_thread(self.db.close)

    def end_polls(self):
        self.polls.end()

    def _now(self):
        return int(self.clock.now() * 1000)

    async def w(self, op):
        return await asyncio.wrap_future(self.db.write(op))

    async def r(self, op):
        return await asyncio.wrap_future(self.db.read(op))

    async def qid(self, req):
        name = req["QueueUrl"].rsplit("/", 1)[-1]
        row = await self.r(lambda c: c.execute("SELECT id FROM queues WHERE name=?", (name,)).fetchone())
        if not row:
            raise SqsError("QueueDoesNotExist", "The specified queue does not exist.")
        return row[0]

    def url(self, ctx, name):
        return f"{ctx.base_url}/{self.account}/{name}"

    async def call(self, action, req, ctx):
        return await getattr(self, action)(req, ctx)

    async def CreateQueue(self, req, ctx):
        name = req["QueueName"]
        now = self._now()
        import re

        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo", name):
            raise SqsError(
                "InvalidParameterValueException",
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            )
        self.attrs[name] = dict(req.get("Attributes", {}))
        dl = None
        most = None
        if "RedrivePolicy" in self.attrs[name]:
            p = json.loads(self.attrs[name]["RedrivePolicy"])
            most = int(p["maxReceiveCount"])
            dl = await self.qid({"QueueUrl": p["deadLetterTargetArn"].replace(":", "/")})
        await self.w(lambda c: store.create_queue(c, name, now, dead_letter_queue=dl, max_receive_count=most))
        return {"QueueUrl": self.url(ctx, name)}

    async def GetQueueUrl(self, req, ctx):
        await self.qid({"QueueUrl": req["QueueName"]})
        return {"QueueUrl": self.url(ctx, req["QueueName"])}

    async def ListQueues(self, req, ctx):
        rows = await self.r(lambda c: c.execute("SELECT name FROM queues ORDER BY name").fetchall())
        return {"QueueUrls": [self.url(ctx, n) for (n,) in rows]} if rows else {}

    async def DeleteQueue(self, req, ctx):
        q = await self.qid(req)

        def op(c):
            c.execute("UPDATE queues SET dead_letter_queue=NULL WHERE dead_letter_queue=?", (q,))
            c.execute("DELETE FROM deduplications WHERE queue=?", (q,))
            c.execute("DELETE FROM messages WHERE queue=?", (q,))
            c.execute("DELETE FROM queues WHERE id=?", (q,))

        await self.w(op)
        return {}

    async def PurgeQueue(self, req, ctx):
        await self.qid(req)
        return {}

    async def SetQueueAttributes(self, req, ctx):
        self.attrs.setdefault(req["QueueUrl"].rsplit("/", 1)[-1], {}).update(req["Attributes"])
        return {}

    async def GetQueueAttributes(self, req, ctx):
        q = await self.qid(req)
        name = req["QueueUrl"].rsplit("/", 1)[-1]
        s = await self.r(lambda c: store.status(c, q, self._now()))
        row = await self.r(
            lambda c: c.execute(
                "SELECT q.max_receive_count,d.name FROM queues q LEFT JOIN queues d ON d.id=q.dead_letter_queue WHERE q.id=?",
                (q,),
            ).fetchone()
        )
        a = {
            "QueueArn": f"arn:aws:sqs:{self.region}:{self.account}:{name}",
            "ApproximateNumberOfMessages": str(s.messages_available),
            "ApproximateNumberOfMessagesNotVisible": str(s.messages_in_flight),
            "ApproximateNumberOfMessagesDelayed": "0",
            "FifoQueue": "true",
        }
        if row[1]:
            a["RedrivePolicy"] = json.dumps(
                {"deadLetterTargetArn": f"arn:aws:sqs:{self.region}:{self.account}:{row[1]}", "maxReceiveCount": row[0]}
            )
        return {"Attributes": a}

    async def _send(self, q, es):
        ms = [
            (
                Message(
                    body=e["MessageBody"],
                    group_id=e["MessageGroupId"],
                    deduplication_id=e["MessageDeduplicationId"],
                    attributes={k: v["StringValue"] for k, v in e.get("MessageAttributes", {}).items()},
                ),
                str(uuid.uuid4()),
            )
            for e in es
        ]

        def op(c):
            rs = store.send(c, q, ms, self._now())
            return [
                (
                    r,
                    c.execute(
                        "SELECT seq FROM deduplications WHERE queue=? AND deduplication_id=?", (q, m.deduplication_id)
                    ).fetchone()[0],
                )
                for r, (m, _) in zip(rs, ms)
            ]

        rs = await self.w(op)
        self.bell.ring(q, len(ms))
        return [
            {
                "MessageId": r.message_id,
                "MD5OfMessageBody": hashlib.md5(e["MessageBody"].encode()).hexdigest(),
                "SequenceNumber": f"{s:020}",
            }
            for (r, s), e in zip(rs, es)
        ]

    async def SendMessage(self, req, ctx):
        return (await self._send(await self.qid(req), [req]))[0]

    async def SendMessageBatch(self, req, ctx):
        q = await self.qid(req)
        rs = await self._send(q, req["Entries"])
        return {"Successful": [{"Id": e["Id"], **r} for e, r in zip(req["Entries"], rs)]}

    async def ReceiveMessage(self, req, ctx):
        q = await self.qid(req)
        most = req.get("MaxNumberOfMessages", 1)
        lease = req.get("VisibilityTimeout", 30) * 1000

        def nr(c):
            x = store.next_ready(c, q, self._now())
            return None if x is None else x / 1000

        def look(c):
            f = store.receive(
                c, store.Receive(queue=q, limit=most, lease=lease, now=self._now()), lambda: secrets.token_hex(8)
            )
            return Look(found=f, ready_at=None if f else nr(c))

        ds = await self.polls.receive(
            Source(queue=q, receive=lambda: self.w(look), ready_at=lambda: self.r(nr)), req.get("WaitTimeSeconds", 0)
        )
        if not ds:
            return {}
        return {
            "Messages": [
                {
                    "MessageId": d.message_id,
                    "ReceiptHandle": d.receipt_handle,
                    "Body": d.body,
                    "MD5OfBody": hashlib.md5(d.body.encode()).hexdigest(),
                    "Attributes": {
                        "MessageGroupId": d.group_id,
                        "MessageDeduplicationId": d.deduplication_id,
                        "ApproximateReceiveCount": str(d.receive_count),
                        "SentTimestamp": str(int(d.sent_at * 1000)),
                        "SequenceNumber": "%020d" % int(d.receipt_handle.split(".")[1]),
                    },
                    "MessageAttributes": {k: {"DataType": "String", "StringValue": v} for k, v in d.attributes.items()},
                }
                for d in ds
            ]
        }

    async def _each(self, es, op):
        ok, bad = [], []
        for e, x in zip(es, await self.w(op)):
            if x is None:
                ok.append({"Id": e["Id"]})
            else:
                bad.append({"Id": e["Id"], "Code": x.code, "Message": x.text, "SenderFault": True})
        return {**({"Successful": ok} if ok else {}), **({"Failed": bad} if bad else {})}

    async def DeleteMessageBatch(self, req, ctx):
        q = await self.qid(req)
        r = await self._each(
            req["Entries"], lambda c: store.delete(c, q, [e["ReceiptHandle"] for e in req["Entries"]], self._now())
        )
        self.bell.ring(q, 10)
        return r

    async def DeleteMessage(self, req, ctx):
        return self.one(await self.DeleteMessageBatch({**req, "Entries": [{"Id": "1", **req}]}, ctx))

    async def ChangeMessageVisibilityBatch(self, req, ctx):
        q = await self.qid(req)
        r = await self._each(
            req["Entries"],
            lambda c: store.change_visibility(
                c, q, [(e["ReceiptHandle"], e["VisibilityTimeout"] * 1000) for e in req["Entries"]], self._now()
            ),
        )
        self.bell.ring(q, 10)
        return r

    async def ChangeMessageVisibility(self, req, ctx):
        return self.one(await self.ChangeMessageVisibilityBatch({**req, "Entries": [{"Id": "1", **req}]}, ctx))

    def one(self, r):
        if "Failed" in r:
            raise SqsError(r["Failed"][0]["Code"] + "Exception", r["Failed"][0]["Message"])
        return {}
