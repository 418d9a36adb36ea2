//! Builds the micro image into a folder and prints where it is:
//! `cargo run -p kvm-compose --features libvirt --example micro-image -- FOLDER`.

use std::{path::PathBuf, process::ExitCode};

use kvm_compose::{
    backend::images::{MicroSources, build_micro},
    error::{Code, Problem},
    orchestrate::host::Cancel,
};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            problem.causes.iter().for_each(|cause| eprintln!("  because: {cause}"));
            problem.hint.iter().for_each(|hint| eprintln!("  hint: {hint}"));
            ExitCode::from(problem.code.exit_status())
        }
    }
}

fn build() -> Result<(), Problem> {
    let folder =
        std::env::args_os().nth(1).map(PathBuf::from).ok_or_else(|| Problem::new(Code::BadRequest, "name the folder of images"))?;
    let image = build_micro(&folder, &MicroSources::find()?, &Cancel::new(), &|line| println!("{line}"))?;
    println!("{}\n{}", image.kernel.display(), image.initramfs.display());
    Ok(())
}
