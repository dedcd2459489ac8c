// The Node.js worker: takes tasks from its own queue and sends each result back as a message to the Python worker's.
//
//   node worker.mjs
//
// 1. sqs-consumer receives, keeps what it holds invisible, and deletes what `handleMessage` returns.
// 2. A result goes back as the same task with `task_config.answer`, before the request is deleted: a crash between the
//    two means that it is done and sent again, and the ledger on the other side counts one.
// 3. What throws is left alone, comes back after the visibility timeout, and ends in node-dlq.fifo if it goes on.

import { GetQueueUrlCommand, SQSClient, SendMessageCommand } from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

// What JavaScript's Intl and Unicode support do in a line, and Python's standard library doesn't do at all.
const tasks = {
  graphemes: ({ text }) => [...new Intl.Segmenter().segment(text)].length,
  slug: ({ text }) =>
    text
      .normalize("NFKD")
      .toLowerCase()
      .replace(/\p{Mark}/gu, "")
      .replace(/[^\p{Letter}\p{Number}]+/gu, "-")
      .replace(/^-|-$/g, ""),
};

const sqs = new SQSClient({
  endpoint: process.env.AWS_ENDPOINT_URL_SQS ?? "http://127.0.0.1:9324",
  region: process.env.AWS_REGION ?? "us-east-1",
  // On loopback the endpoint takes any credentials; against AWS, the SDK finds real ones by itself.
  ...(process.env.AWS_ACCESS_KEY_ID ? {} : { credentials: { accessKeyId: "local", secretAccessKey: "local" } }),
});

const urlOf = async (name) => (await sqs.send(new GetQueueUrlCommand({ QueueName: name }))).QueueUrl;

function answer(task) {
  const run = tasks[task.task_name];
  if (!run) return { error: `the Node worker has no task ${task.task_name}` };
  return { result: run(task.task_config) };
}

async function handleMessage(message) {
  const task = JSON.parse(message.Body);
  const answered = { ...task, task_config: { ...task.task_config, answer: answer(task) } };
  await sqs.send(
    new SendMessageCommand({
      QueueUrl: replyTo,
      MessageBody: JSON.stringify(answered),
      // Not the group of the request on the other side: that one waits there, and would hold its answer up.
      MessageGroupId: `${task.entity_id}-${task.task_name}-answer`,
      MessageDeduplicationId: `${task.entity_id}-${task.task_name}-${task.fan_out_id}-answer`,
    }),
  );
  console.log(`${task.entity_id} ${task.task_name}`, answered.task_config.answer);
  return message;
}

const replyTo = await urlOf("tasks.fifo");
const consumer = Consumer.create({
  queueUrl: await urlOf("node.fifo"),
  sqs,
  handleMessage,
  batchSize: 10,
  visibilityTimeout: 60,
  heartbeatInterval: 20,
  pollingCompleteWaitTimeMs: 25_000, // a poll in flight at the stop may bring messages: they are worked on
  suppressFifoWarning: true, // its warning is about order within a batch, and each task here is a group of its own
});
consumer.on("error", (error) => console.error(error.message));
consumer.on("processing_error", (error) => console.error(error.message));
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => consumer.stop());
consumer.start();
console.log("working on", Object.keys(tasks).join(", "));
