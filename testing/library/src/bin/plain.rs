//! A program whose `main` is plain: it does not know that the library it calls starts processes.

fn main() {
    for method in ["spawn", "forkserver"] {
        let sum = method
            .parse()
            .map_err(procession::Error::from)
            .and_then(|method| procession_test_library::sum_of_squares(method, 100));
        println!("{method}: {}", sum.map_or_else(|error| error.to_string(), |sum| sum.to_string()));
    }
}
