. /payload/steps.sh
# Agents are killed in the middle of each command of a join, and of a renewal: while the host holds that command back the
# driver waits, and the agent in it. Each time the next start needs no help.
struck() {
    desk held && kill -KILL "$1" && desk release && { wait "$1"; [ $? -eq 137 ]; }
}

number=0
for command in $JOIN; do
    number=$((number + 1))
    step "$command armed" desk "hold ${command%:*} ${command#*:}"
    # Not by way of a function: that would be a shell, and the kill would hit it.
    agent join --authority "$AUTHORITY" --token "$TOKEN" --ca-pin "$PIN" --storage /tmp/$number & agent=$!
    step "$command struck" struck "$agent"
    step "$command left" handles
    step "$command clean" join /tmp/$number
done

configure /tmp/host ''
daemon /tmp/host
step ready until_said /tmp/host 1 "$READY"
number=1
for command in $RENEWAL; do
    step "$command renewal armed" desk "hold ${command%:*} ${command#*:}"
    kill -USR1 "$daemon"
    step "$command renewal struck" struck "$daemon"
    step "$command renewal left" handles
    number=$((number + 1))
    daemon /tmp/host
    step "$command renewal ready" until_said /tmp/host "$number" "$READY"
    kill -USR1 "$daemon"
    step "$command renewal clean" until_said /tmp/host $((number - 1)) "$RENEWED"
    # Not with the service's job still to do: the next hold is for a renewal.
    step "$command renewal issued" until_said /tmp/host "$number" "$ISSUED"
done
step ended ended
step log cat /tmp/host/log
step handles handles
