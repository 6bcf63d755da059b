//! Weights of checkpoints as values.

use crate::error::{Code, Failure, or_raise};
use crate::model::arguments::Regcheckpoint;
use crate::model::state_dict::StateDict;
use crate::pg::arguments::{text, uuid};
use crate::store::Store;
use crate::tensor::datum::TensorOut;
use crate::tensor_storage::get::whole;
use crate::tensor_storage::locate::{read_tensor, tensor_columns};
use pgrx::prelude::*;

#[pg_extern(stable, strict, parallel_restricted, cost = 10000, requires = ["tensor_type"])]
#[search_path(pg_catalog, pg_temp)]
fn get_checkpoint_tensor(checkpoint: Regcheckpoint, weight_name: &str) -> TensorOut {
    or_raise((|| {
        let (store, checkpoint) = (Store::for_reading()?, checkpoint.0);
        let found = store.row(
            concat!(
                "SELECT ",
                tensor_columns!(),
                " FROM @store@.checkpoint_weights w JOIN @store@.tensor_metadata t USING (tensor_id)
                  WHERE w.checkpoint_id = $1 AND w.weight_name = $2"
            ),
            &[uuid(checkpoint), text(weight_name)],
            |row| read_tensor(row, Some(weight_name.to_owned())),
        )?;
        let Some(tensor) = found else {
            StateDict::Checkpoint(checkpoint).require(&store)?;
            return Err(Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("checkpoint {checkpoint} has no weight \"{weight_name}\""),
            )
            .hint(format!(
                "SELECT weight_name FROM modelstore.checkpoint_weights_at('{checkpoint}');"
            )));
        };
        whole(&store, &tensor.check()?)
    })())
}
