. /payload/steps.sh
step identify agent identify --format json
step join join /tmp/storage
step status agent status --storage /tmp/storage
step whoami agent whoami --storage /tmp/storage
step handles handles
