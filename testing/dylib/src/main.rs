//! The program: its own functions run in children, too.

use procession_test_dylib::{Context, Result, StartMethod, sum_of_squares};

fn main() -> Result<()> {
    for method in StartMethod::ALL {
        let sum = sum_of_squares(method, 100)?;
        let context = Context::new(method);
        let cubes = context.pool(2)?.map(|x: u64| x * x * x, 0..4)?;
        let length = context.process(|text: String| text.len(), "five!".to_owned()).start()?.join()?;
        println!("{method}: {sum} {cubes:?} {length}");
    }
    Ok(())
}
