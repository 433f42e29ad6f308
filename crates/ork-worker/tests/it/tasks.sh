# The tasks of the conformance suite, as a shell does them. "$nap" is a unique time for sleep.
set -u
case "$1" in
  fine) echo hello; echo oops >&2 ;;
  value) printf '{"rows": 3, "name": "é"}' > "$ORK_OUTPUT" ;;
  environment) env -0 | sort -z | tr '\0' '\n' ;;
  exit_three) echo last words >&2; exit 3 ;;
  killed) kill -9 $$ ;;
  nothing) ;;
  sleep) echo ready; exec sleep "$nap" ;;
  stubborn) trap '' TERM; echo ready; sleep "$nap"; sleep "$nap"; sleep "$nap" ;;
  polite) trap 'echo bye; exit 0' TERM; echo ready; sleep "$nap" & wait ;;
  grandchild) sleep "$nap" & echo ready ;;
  daemon) setsid sleep "$nap" & sh -c "setsid sleep $nap &"; echo ready ;;
  naked_daemon) sh -c "env -i setsid $(command -v sleep) $nap < /dev/null > /dev/null 2>&1 &"; echo ready ;;
  stopped_with_daemons)
    setsid sleep "$nap" & sh -c "env -i setsid $(command -v sleep) $nap > /dev/null 2>&1 &"
    trap '' TERM; echo ready; sleep "$nap"; sleep "$nap" ;;
  naked_daemons_alone)
    setsid sleep "$nap" & sh -c "env -i setsid $(command -v sleep) $nap > /dev/null 2>&1 &" ;;
  brood)
    # Each starts others, in sessions of their own; 190 processes if nobody stops them.
    breed() {
      trap '' TERM
      for _ in 1 2 3 4 5; do
        setsid sleep "$nap" &
        if [ "$1" -gt 0 ]; then (breed $(($1 - 1))) & fi
        sleep 0.05
      done
      sleep "$nap"
    }
    echo ready; breed 2 ;;
  tee) exec > >(sleep 0.02; cat); echo through the pipe ;;
  binary) printf 'a\377\376b\r\n\n\000x\n' ;;
  structured)
    echo '{"level": "warning", "message": "careful", "n": 1}'
    echo '{"level": "ERROR", "message": "bad"}'
    echo '{"message": "no level"}'; echo '{"level": "debug"}' ;;
  flood) yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c "$2" ;;
  one_line) head -c "$2" /dev/zero | tr '\0' x; echo; echo after ;;
esac
