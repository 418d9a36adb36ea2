//! Entry point: everything is in the library, so that tests reach it too.

fn main() -> std::process::ExitCode {
    testbedos_server::main()
}
