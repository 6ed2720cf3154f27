use crate::console;
use crate::failure::Failure;

/// `weir openapi`
pub(crate) fn run() -> Result<(), Failure> {
    let document = weir_facade::openapi().to_pretty_json();
    console::print(document.map_err(|error| Failure::unavailable("the OpenAPI document", &error))?);
    Ok(())
}
