//! `cp`.

#[derive(Debug, clap::Args)]
pub struct Copy {
    /// What is copied: a path here, or GUEST:PATH; with `/.` at its end what is in a folder, without the folder
    #[arg(value_name = "SRC", value_hint = clap::ValueHint::AnyPath)]
    pub from: String,
    /// Where to: a path here, or GUEST:PATH; into it when it is a folder, else under this name
    #[arg(value_name = "DST", value_hint = clap::ValueHint::AnyPath)]
    pub to: String,
}
