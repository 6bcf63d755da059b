#!/usr/bin/env bash
# Runs the acceptance of distributed stores on a PostgreSQL that has Citus: on a cluster of three nodes, and the tests of models,
# training and atoms on stores that are distributed. Builds the extension into that PostgreSQL first.
#
#   scripts/citus_check.sh PREFIX [ARGUMENT of pytest…]     PREFIX/bin/pg_config is that of the PostgreSQL
#
# CITUS_SECONDS is how long three nodes are stressed (20). Of the tests on distributed stores, those are left out that do what Citus
# does not: call functions of a store row by row of its own tables, update those with volatile functions, add triggers or policies.
. "$(dirname "$0")/lib.sh"

[ -n "${1:-}" ] || die "PREFIX is missing: scripts/citus_check.sh PREFIX"
PG_CONFIG=$1/bin/pg_config
shift
[ -x "$PG_CONFIG" ] || die "$PG_CONFIG is not an executable file"
[ -f "$("$PG_CONFIG" --pkglibdir)/citus.so" ] || die "$("$PG_CONFIG" --pkglibdir) has no citus.so"
PG=$(pg_major "$PG_CONFIG")
export PG_CONFIG PG CITUS=yes

cd "$ROOT"
[ -n "${NO_BUILD:-}" ] || scripts/build.sh
tests=(
  pgrx-tests/server/test_citus.py
  pgrx-tests/models/test_{conveniences,copy_model,archive,shards,shards_concurrency,uploads_concurrency,folder,model_card,reuse_and_deltas}.py
  pgrx-tests/training/test_{checkpoints_delta,checkpoints_order,model_delta,training_resume}.py
  pgrx-tests/atoms
)
left_out=(
  --deselect pgrx-tests/models/test_conveniences.py::test_gradients
  --deselect pgrx-tests/models/test_conveniences.py::test_a_gradient_that_cannot_be_linked_is_an_error
  --deselect pgrx-tests/models/test_copy_model.py::test_rights
  --deselect pgrx-tests/models/test_copy_model.py::test_cancel
  --deselect pgrx-tests/models/test_shards_concurrency.py::test_two_models_with_their_shards_in_opposite_order
  --deselect pgrx-tests/atoms/test_atoms_standby_dump.py::test_a_hot_standby_reads_and_does_not_write
)
exec scripts/pytest.sh -q -n 2 --dist worksteal -m "not alone and not builds" "${left_out[@]}" "${tests[@]}" "$@"
