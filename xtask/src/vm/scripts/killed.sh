. /payload/steps.sh
milliseconds() { read -r up _ </proc/uptime; echo $((${up%.*}${up#*.} * 10)); }

# How long a join takes here once all is in memory; the kills are spread over that time.
join /tmp/first >/tmp/said
before=$(milliseconds)
step join join /tmp/first
whole=$(($(milliseconds) - before))
echo "a join takes $whole ms"

number=0
while [ "$number" -lt "$KILLS" ]; do
    number=$((number + 1))
    # Not by way of a function: that would be a shell, and the kill would hit it.
    agent join --authority "$AUTHORITY" --token "$TOKEN" --ca-pin "$PIN" --storage /tmp/killed \
        >/tmp/said 2>&1 & agent=$!
    usleep $(((number * 1000 - RANDOM % 1000) * whole / KILLS))
    kill -KILL "$agent" 2>/dev/null
    wait "$agent"
    ended=$?
    echo "killed $number: $ended"
    [ "$ended" -eq 137 ] && continue
    cat /tmp/said
    # The one that was measured took longer: the host had other things to do.
    whole=$((whole * 3 / 4))
done
step clean join /tmp/killed
step whoami agent whoami --storage /tmp/killed
step handles handles
