#!/bin/sh
# Sends one event with the AWS command line: `./produce.sh DOCUMENT TEXT`, where DOCUMENT is letters, digits and
# hyphens. The same event again changes nothing.
set -eu
export AWS_DEFAULT_REGION="${AWS_DEFAULT_REGION:-us-east-1}"
export AWS_ACCESS_KEY_ID="${AWS_ACCESS_KEY_ID:-local}" AWS_SECRET_ACCESS_KEY="${AWS_SECRET_ACCESS_KEY:-local}"
# As an option: version 1 of the AWS command line doesn't look at AWS_ENDPOINT_URL_SQS.
sqs() { aws sqs "$@" --endpoint-url "${AWS_ENDPOINT_URL_SQS:-http://127.0.0.1:9324}" --output text; }

document=$1 text=$2
quoted() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$1"; }

# The event's name is what makes "the same event": the document, and what it says.
event="$document:$(printf '%s' "$text" | cksum | cut -d ' ' -f 1)"
body=$(cat <<JSON
{"entity_id": $(quoted "$document"), "task_name": "arrived", "task_config": {"text": $(quoted "$text")},
 "metadata": {"event": $(quoted "$event")}, "timestamp": "$(date -u +%Y-%m-%dT%H:%M:%S+00:00)",
 "retry_count": 0, "total_tasks": 1}
JSON
)
queue=$(sqs get-queue-url --queue-name tasks.fifo --query QueueUrl)
sqs send-message --queue-url "$queue" --message-body "$body" --query MessageId \
    --message-group-id "$document-arrived" --message-deduplication-id "$event"
