//! Prints the public items in rustdoc's JSON, one per line, sorted.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let json = env::args().nth(1).ok_or("usage: adaptive-pool-api JSON")?;
    // Blanket impls are the same for every type. Marker traits without a stable name come and go.
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .build()?;
    for item in api.items() {
        let line = item.to_string();
        if ![
            "::Freeze for ",
            "::UnsafeUnpin for ",
            "::StructuralPartialEq for ",
        ]
        .iter()
        .any(|unstable| line.contains(unstable))
        {
            println!("{line}");
        }
    }
    Ok(())
}
