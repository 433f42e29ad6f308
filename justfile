# Shorthands. Each is one command that works without just.

# The gate, exactly as CI runs it
ci *STEPS:
    cargo xtask ci {{STEPS}}

# All tests
test *ARGS:
    cargo nextest run --workspace {{ARGS}}

# Format everything
fmt:
    cargo fmt --all

# The walls that no compiler sees
tidy:
    cargo xtask tidy

# Simulate runs from seeds, for SECONDS
sim SECONDS="60":
    cargo xtask sim --seconds {{SECONDS}}

# Measure, and compare with the last measurement
bench *ARGS:
    cargo xtask bench {{ARGS}}

# The binary as it is shipped
build:
    cargo build --release
