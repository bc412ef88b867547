. /payload/steps.sh
# The PCRs of the firmware, quoted for a verifier on the host, with the log and what the kernel reads of them.
mount -t securityfs security /sys/kernel/security
step quote quote device:/dev/tpmrm0 "$NONCE" /tmp/quote
cp /sys/kernel/security/tpm0/binary_bios_measurements /tmp/quote/log
for file in public attest signature log; do step "$file" base64 "/tmp/quote/$file"; done
pcrs() { for number in $(seq 0 7); do echo "$number $(cat "/sys/class/tpm/tpm0/pcr-sha256/$number")"; done; }
step pcrs pcrs
step handles handles
