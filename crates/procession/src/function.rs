//! The traits of functions that run in another process. Used in the parent, to name the function's
//! entry, and in the worker, which calls it.

/// A function from `A` to `R` that can run in another process: every `fn`, and every closure that
/// captures nothing. Nothing else needs to be.
pub trait TaskFn<A, R>: Fn(A) -> R + Copy + 'static {}

impl<F, A, R> TaskFn<A, R> for F where F: Fn(A) -> R + Copy + 'static {}

/// A function that is called with a job's state, by reference, and an argument: every `fn` and
/// every closure that captures nothing. Nothing else needs to be.
pub trait StateFn<S, A, R>: Fn(&S, A) -> R + Copy + 'static {}

impl<F, S, A, R> StateFn<S, A, R> for F where F: Fn(&S, A) -> R + Copy + 'static {}

/// A function of two to eight arguments that can be called with a tuple of them. Every `fn` and
/// every closure that captures nothing is one; nothing else needs to be.
///
/// ```compile_fail,E0593
/// # fn main() -> procession::Result<()> {
/// # let pool = procession::Context::fork().pool(1)?;
/// pool.starmap(|a: u32, b: u32| a + b, [(1u32, 2u32, 3u32)])?; // two arguments, three values
/// # Ok(()) }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function of the {Arguments} that each item holds, one argument for each",
    label = "its arguments are not these",
    note = "items are tuples of two to eight; a function of one argument, be it a tuple, goes to `map`"
)]
pub trait TupleFn<Arguments>: Copy + 'static {
    /// The type of its result.
    type Output;

    /// Calls it.
    fn call_with(&self, arguments: Arguments) -> Self::Output;
}

/// As [`TupleFn`], for a function that is called with a job's state, by reference, before the
/// arguments.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a function of `&{S}` and the {Arguments} that each item holds, one argument for each",
    label = "its arguments are not these",
    note = "items are tuples of two to eight; a function of one argument, be it a tuple, goes to `map_with`"
)]
pub trait StateTupleFn<S, Arguments>: Copy + 'static {
    /// The type of its result.
    type Output;

    /// Calls it.
    fn call_with(&self, state: &S, arguments: Arguments) -> Self::Output;
}

macro_rules! of_arguments {
    ($($argument:ident)+) => {
        impl<F, S, R, $($argument),+> StateTupleFn<S, ($($argument,)+)> for F
        where
            F: Fn(&S, $($argument),+) -> R + Copy + 'static,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "an argument is named as its type")]
            fn call_with(&self, state: &S, ($($argument,)+): ($($argument,)+)) -> R {
                self(state, $($argument),+)
            }
        }

        impl<F, R, $($argument),+> TupleFn<($($argument,)+)> for F
        where
            F: Fn($($argument),+) -> R + Copy + 'static,
        {
            type Output = R;

            #[allow(non_snake_case, reason = "an argument is named as its type")]
            fn call_with(&self, ($($argument,)+): ($($argument,)+)) -> R {
                self($($argument),+)
            }
        }
    };
}

of_arguments!(A B);
of_arguments!(A B C);
of_arguments!(A B C D);
of_arguments!(A B C D E);
of_arguments!(A B C D E G);
of_arguments!(A B C D E G H);
of_arguments!(A B C D E G H I);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_is_taken_apart_in_order() {
        fn with<T, F: TupleFn<T>>(function: F, arguments: T) -> F::Output {
            function.call_with(arguments)
        }
        assert_eq!(with(|a: u8, b: &str| format!("{a}{b}"), (1, "x")), "1x");
        let eight = |a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8| [a, b, c, d, e, f, g, h];
        assert_eq!(with(eight, (1, 2, 3, 4, 5, 6, 7, 8)), [1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
