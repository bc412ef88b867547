//! The specification's tables as types.

/// Open numbers: a newtype that carries any value and knows the names of some. `numbers!` for a list of constants
/// (Part 2's `TPM_` types), with `bits` for attribute words (`TPMA_` types). Before each constant stand the names by which
/// people know it; the first is that of the specification. `with` names a method that reads a field between the bits, for `Debug`.
macro_rules! numbers {
    ($($(#[$meta:meta])* $name:ident: $repr:ty {
        $($(#[$doc:meta])* $spec:literal $($alias:literal)* $constant:ident = $value:expr),* $(,)?
    })*) => {$(
        numbers! { @type $(#[$meta])* $name: $repr {
            $($(#[$doc])* $spec $($alias)* $constant = $value),*
        } }

        impl $name {
            /// The specification's name without its prefix, where this crate knows one.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some(stringify!($constant)),)*
                    _ => None,
                }
            }
        }

        /// The specification's name, or the number.
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                const WIDTH: usize = 2 + 2 * size_of::<$repr>();
                match *self {
                    $(Self::$constant => f.write_str($spec),)*
                    Self(number) => write!(f, "{number:#0width$x}", width = WIDTH),
                }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($name), "({:#x})"), self.0),
                }
            }
        }
    )*};

    ($($(#[$meta:meta])* bits $name:ident $(with $field:ident)?: $repr:ty {
        $($(#[$doc:meta])* $($alias:literal)+ $constant:ident = $value:expr),* $(,)?
    })*) => {$(
        numbers! { @type $(#[$meta])* $name: $repr {
            $($(#[$doc])* $($alias)+ $constant = $value),*
        } }

        impl $name {
            /// No bit set.
            pub const NONE: Self = Self(0);

            /// Whether all bits of `bits` are set.
            #[must_use]
            pub const fn contains(self, bits: Self) -> bool {
                self.0 & bits.0 == bits.0
            }

            /// These bits and those.
            #[must_use]
            pub const fn with(self, bits: Self) -> Self {
                Self(self.0 | bits.0)
            }

            /// These bits without those.
            #[must_use]
            pub const fn without(self, bits: Self) -> Self {
                Self(self.0 & !bits.0)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x}"), self.0)?;
                $(write!(f, " {:?}", self.$field())?;)?
                $(if self.contains(Self::$constant) {
                    write!(f, concat!(" ", stringify!($constant)))?;
                })*
                f.write_str(")")
            }
        }
    )*};

    (@type $(#[$meta:meta])* $name:ident: $repr:ty {
        $($(#[$doc:meta])* $spec:literal $($alias:literal)* $constant:ident = $value:expr),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(
            /// The number on the wire.
            pub $repr,
        );

        impl $name {
            $(
                $(#[$doc])*
                ///
                #[doc = concat!("`", $spec, "`, ", stringify!($value), ".")]
                #[doc(alias($spec, $($alias),*))]
                pub const $constant: Self = Self($value);
            )*
        }

        impl $crate::wire::Marshal for $name {
            #[inline]
            fn marshal(
                &self,
                writer: &mut $crate::wire::Writer<'_>,
            ) -> Result<(), $crate::wire::TooLarge> {
                writer.write(&self.0)
            }
        }

        impl $crate::wire::Unmarshal<'_> for $name {
            const OCTETS: Option<usize> = <$repr as $crate::wire::Unmarshal<'_>>::OCTETS;

            #[inline]
            fn unmarshal(
                reader: &mut $crate::wire::Reader<'_>,
            ) -> Result<Self, $crate::wire::Malformed> {
                $crate::wire::Unmarshal::unmarshal(reader).map(Self)
            }
        }
    };
}

/// A structure: its fields in wire order.
macro_rules! structure {
    ($($(#[$meta:meta])* $name:ident $(<$life:lifetime>)? {
        $($(#[$field_meta:meta])* $field:ident: $ty:ty),* $(,)?
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name $(<$life>)? {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl $(<$life>)? $crate::wire::Marshal for $name $(<$life>)? {
            #[inline]
            fn marshal(
                &self,
                writer: &mut $crate::wire::Writer<'_>,
            ) -> Result<(), $crate::wire::TooLarge> {
                $(writer.write(&self.$field)?;)*
                Ok(())
            }
        }

        structure! { @unmarshal $name $(<$life>)? { $($field: $ty)* } }
    )*};

    (@unmarshal $name:ident { $($field:ident: $ty:ty)* }) => {
        impl<'a> $crate::wire::Unmarshal<'a> for $name {
            const OCTETS: Option<usize> =
                $crate::wire::octets(&[$(<$ty as $crate::wire::Unmarshal<'a>>::OCTETS),*]);

            #[inline]
            fn unmarshal(
                reader: &mut $crate::wire::Reader<'a>,
            ) -> Result<Self, $crate::wire::Malformed> {
                Ok(Self {
                    $($field: reader.read(concat!(stringify!($name), ".", stringify!($field)))?,)*
                })
            }
        }
    };

    (@unmarshal $name:ident <$life:lifetime> { $($field:ident: $ty:ty)* }) => {
        impl<$life> $crate::wire::Unmarshal<$life> for $name<$life> {
            #[inline]
            fn unmarshal(
                reader: &mut $crate::wire::Reader<$life>,
            ) -> Result<Self, $crate::wire::Malformed> {
                Ok(Self {
                    $($field: reader.read(concat!(stringify!($name), ".", stringify!($field)))?,)*
                })
            }
        }
    };
}

/// A union: an enum whose payload fixes the selector, so that the two cannot disagree. Its wire form is selector and
/// payload together, as in the `TPMT_` structures; [`TPMT_PUBLIC`](crate::types::Public), whose selector stands apart,
/// uses the two halves.
macro_rules! union {
    ($($(#[$meta:meta])* $name:ident $(<$life:lifetime>)?: $selector:ident {
        $($(#[$variant_meta:meta])* $variant:ident $(($body:ident: $ty:ty))? = $number:ident),* $(,)?
    })*) => {$(
        $(#[$meta])*
        ///
        /// Editions of the specification add to it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name $(<$life>)? {
            $($(#[$variant_meta])* $variant $(($ty))?,)*
        }

        impl $(<$life>)? $name $(<$life>)? {
            /// The selector that belongs to the payload.
            #[must_use]
            pub const fn selector(&self) -> $selector {
                match self {
                    $(Self::$variant { .. } => $selector::$number,)*
                }
            }

            /// Writes the selector, what stands `between` the two, and the payload.
            #[inline(always)]
            pub(crate) fn marshal_around(
                &self,
                writer: &mut $crate::wire::Writer<'_>,
                between: impl FnOnce(
                    &mut $crate::wire::Writer<'_>,
                ) -> Result<(), $crate::wire::TooLarge>,
            ) -> Result<(), $crate::wire::TooLarge> {
                writer.write(&self.selector())?;
                between(writer)?;
                match self {
                    $(Self::$variant $(($body))? => {
                        $(writer.write($body)?;)?
                    })*
                }
                Ok(())
            }
        }

        impl $(<$life>)? $crate::wire::Marshal for $name $(<$life>)? {
            #[inline]
            fn marshal(
                &self,
                writer: &mut $crate::wire::Writer<'_>,
            ) -> Result<(), $crate::wire::TooLarge> {
                self.marshal_around(writer, |_| Ok(()))
            }
        }

        union! { @unmarshal $name $(<$life>)?: $selector { $($variant $(($body))? = $number),* } }
    )*};

    (@unmarshal $name:ident: $selector:ident { $($variants:tt)* }) => {
        impl $name {
            union! { @body '_, $name: $selector { $($variants)* } }
        }

        impl $crate::wire::Unmarshal<'_> for $name {
            #[inline(always)]
            fn unmarshal(
                reader: &mut $crate::wire::Reader<'_>,
            ) -> Result<Self, $crate::wire::Malformed> {
                let selector = reader.read(concat!(stringify!($name), " selector"))?;
                Self::unmarshal_body(selector, reader)
            }
        }
    };

    (@unmarshal $name:ident <$life:lifetime>: $selector:ident { $($variants:tt)* }) => {
        impl<$life> $name<$life> {
            union! { @body $life, $name: $selector { $($variants)* } }
        }

        impl<$life> $crate::wire::Unmarshal<$life> for $name<$life> {
            #[inline(always)]
            fn unmarshal(
                reader: &mut $crate::wire::Reader<$life>,
            ) -> Result<Self, $crate::wire::Malformed> {
                let selector = reader.read(concat!(stringify!($name), " selector"))?;
                Self::unmarshal_body(selector, reader)
            }
        }
    };

    (@body $life:lifetime, $name:ident: $selector:ident {
        $($variant:ident $(($body:ident))? = $number:ident),*
    }) => {
        #[inline(always)]
        pub(crate) fn unmarshal_body(
            selector: $selector,
            reader: &mut $crate::wire::Reader<$life>,
        ) -> Result<Self, $crate::wire::Malformed> {
            Ok(match selector {
                $($selector::$number => Self::$variant $((
                    reader.read(concat!(stringify!($name), ".", stringify!($body)))?
                ))?,)*
                _ => {
                    let at = reader.position();
                    return Err($crate::wire::Malformed::new($crate::wire::Why::Selector, at)
                        .named(stringify!($name)));
                }
            })
        }
    };
}

/// The commands of a clause, each as Part 3 prints it: `@` a handle that needs authorization, `#` one that does not, then the
/// parameters; behind the arrow the response, `#` its handle. Behind the title `no_sessions`, and what else a client must know
/// of the command: its [`Effect`](crate::commands::Effect). `as secret` marks what `Debug` hides though its type would be shown,
/// such as a `Digest` of random bytes. One invocation to a file: it also makes the file's part of the
/// table.
macro_rules! command {
    ($(
        $(#[$meta:meta])*
        $name:ident $(<$life:lifetime>)? = $code:ident $title:literal $($tag:ident)*
            { $($request:tt)* } -> $response:ident $(<$response_life:lifetime>)? { $($answer:tt)* }
    )*) => {
        pub(super) const TABLE: &[$crate::commands::CommandInfo] =
            &[$(<command!(@at 'static, $name $($life)?) as $crate::commands::Command>::INFO),*];

        pub(super) fn visit<V: $crate::commands::Visitor>(
            code: $crate::types::CommandCode,
            visitor: V,
        ) -> Result<V::Output, V> {
            match code {
                $($crate::types::CommandCode::$code => {
                    Ok(visitor.visit::<command!(@at 'static, $name $($life)?)>())
                })*
                _ => Err(visitor),
            }
        }

        $(
            command! { @command
                $(#[$meta])*
                $name $(<$life>)? = $code $title $($tag)*
                    { $($request)* } -> $response $(<$response_life>)? { $($answer)* }
            }

            command! { @response $name $response $(<$response_life>)? { $($answer)* } }
        )*
    };

    (@command
        $(#[$meta:meta])*
        $name:ident $(<$life:lifetime>)? = $code:ident $title:literal $($tag:ident)* {
            $(@$auth:ident: $auth_ty:ty,)*
            $(#$handle:ident: $handle_ty:ty,)*
            $($parameter:ident: $ty:ty $(as $secret:ident)?,)*
        } -> $response:ident $(<$response_life:lifetime>)? {
            $(#$response_handle:ident: $response_handle_ty:ty,)?
            $($result:ident: $result_ty:ty $(as $result_secret:ident)?,)*
        }
    ) => {
        $(#[$meta])*
        #[doc(alias = $title)]
        #[derive(Clone, Copy)]
        pub struct $name $(<$life>)? {
            $(
                #[doc = concat!($crate::commands::meaning!($name $auth), " Needs authorization.")]
                pub $auth: $auth_ty,
            )*
            $(
                #[doc = $crate::commands::meaning!($name $handle)]
                pub $handle: $handle_ty,
            )*
            $(
                #[doc = $crate::commands::meaning!($name $parameter)]
                pub $parameter: $ty,
            )*
        }

        impl $(<$life>)? $crate::commands::Command for $name $(<$life>)? {
            const INFO: $crate::commands::CommandInfo = $crate::commands::CommandInfo {
                code: $crate::types::CommandCode::$code,
                name: $title,
                handles: &[$(stringify!($auth),)* $(stringify!($handle),)*],
                authorizations: <[&str]>::len(&[$(stringify!($auth)),*]),
                parameters: &[$(stringify!($parameter),)*],
                first_parameter_sized: command!(@sized $($ty,)*),
                sessions: command!(@sessions $($tag)*),
                effect: command!(@effect $($tag)*),
                response: <<Self as $crate::commands::Command>::Response<'static>
                    as $crate::commands::Response>::INFO,
            };

            type As<'c> = command!(@at 'c, $name $($life)?);

            type Response<'r> = $response $(<$response_life>)?;

            fn entities(&self, visit: &mut dyn FnMut(&dyn $crate::types::Entity)) {
                let _ = &visit;
                $(visit(&self.$auth);)*
                $(visit(&self.$handle);)*
            }

            #[inline]
            fn marshal_handles(
                &self,
                writer: &mut $crate::wire::Writer<'_>,
            ) -> Result<(), $crate::wire::TooLarge> {
                let _ = &writer;
                $(writer.write(&$crate::types::Entity::handle(&self.$auth))?;)*
                $(writer.write(&$crate::types::Entity::handle(&self.$handle))?;)*
                Ok(())
            }

            #[inline]
            fn marshal_parameters(
                &self,
                writer: &mut $crate::wire::Writer<'_>,
            ) -> Result<(), $crate::wire::TooLarge> {
                let _ = &writer;
                $($crate::wire::Marshal::marshal(&self.$parameter, writer)?;)*
                Ok(())
            }

            #[inline]
            fn unmarshal<'c>(
                handles: &mut $crate::wire::Reader<'_>,
                parameters: &mut $crate::wire::Reader<'c>,
            ) -> Result<Self::As<'c>, $crate::wire::Malformed> {
                let _ = (&handles, &parameters);
                Ok($name {
                    $($auth: $crate::commands::entity(
                        handles, concat!(stringify!($name), ".", stringify!($auth))
                    )?,)*
                    $($handle: $crate::commands::entity(
                        handles, concat!(stringify!($name), ".", stringify!($handle))
                    )?,)*
                    $($parameter: parameters.read(
                        concat!(stringify!($name), ".", stringify!($parameter))
                    )?,)*
                })
            }

            fn show_encrypted(
                handles: &mut $crate::wire::Reader<'_>,
                parameters: &mut $crate::wire::Reader<'_>,
                f: &mut core::fmt::Formatter<'_>,
            ) -> core::fmt::Result {
                let _ = &handles;
                let mut fields = $crate::commands::Fields::new(f, stringify!($name));
                $(fields.handle(
                    stringify!($auth),
                    $crate::commands::entity::<$auth_ty>(handles, stringify!($auth)),
                );)*
                $(fields.handle(
                    stringify!($handle),
                    $crate::commands::entity::<$handle_ty>(handles, stringify!($handle)),
                );)*
                command!(@fields fields parameters
                    command!(@at '_, $name $($life)?) { $($parameter $($secret)?,)* });
                fields.finish(parameters)
            }

            #[inline]
            fn unmarshal_response<'r>(
                handle: $crate::types::Handle,
                reader: &mut $crate::wire::Reader<'r>,
            ) -> Result<Self::Response<'r>, $crate::wire::Malformed> {
                let _ = (handle, &reader);
                Ok($response {
                    $($response_handle: <$response_handle_ty>::try_from(handle)?,)?
                    $($result: reader.read(
                        concat!(stringify!($response), ".", stringify!($result))
                    )?,)*
                })
            }
        }

        command! { @authorized $name $(<$life>)? { $($auth)* } }

        impl $(<$life>)? core::fmt::Debug for $name $(<$life>)? {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let mut shown = f.debug_struct(stringify!($name));
                $(shown.field(stringify!($auth), &self.$auth);)*
                $(shown.field(stringify!($handle), &self.$handle);)*
                $(shown.field(stringify!($parameter), command!(@shown self.$parameter $(, $secret)?));)*
                shown.finish()
            }
        }
    };

    (@response $name:ident $response:ident $(<$response_life:lifetime>)? {
        $(#$response_handle:ident: $response_handle_ty:ty,)?
        $($result:ident: $result_ty:ty $(as $secret:ident)?,)*
    }) => {
        #[doc = concat!("What [`", stringify!($name), "`](struct@", stringify!($name), ") answers.")]
        #[derive(Clone, Copy)]
        pub struct $response $(<$response_life>)? {
            $(
                #[doc = $crate::commands::meaning!($response $response_handle)]
                pub $response_handle: $response_handle_ty,
            )?
            $(
                #[doc = $crate::commands::meaning!($response $result)]
                pub $result: $result_ty,
            )*
        }

        impl $(<$response_life>)? $crate::commands::Response for $response $(<$response_life>)? {
            const INFO: $crate::commands::ResponseInfo = $crate::commands::ResponseInfo {
                handle: command!(@handle $($response_handle)?),
                parameters: &[$(stringify!($result),)*],
                first_parameter_sized: command!(@sized $($result_ty,)*),
            };

            #[inline]
            fn marshal_parameters(
                &self,
                writer: &mut $crate::wire::Writer<'_>,
            ) -> Result<(), $crate::wire::TooLarge> {
                let _ = &writer;
                $($crate::wire::Marshal::marshal(&self.$result, writer)?;)*
                Ok(())
            }

            fn show_encrypted(
                handle: $crate::types::Handle,
                parameters: &mut $crate::wire::Reader<'_>,
                f: &mut core::fmt::Formatter<'_>,
            ) -> core::fmt::Result {
                let _ = handle;
                let mut fields = $crate::commands::Fields::new(f, stringify!($response));
                $(fields.handle(
                    stringify!($response_handle),
                    <$response_handle_ty>::try_from(handle).map_err($crate::wire::Malformed::from),
                );)?
                command!(@fields fields parameters
                    command!(@at '_, $response $($response_life)?) { $($result $($secret)?,)* });
                fields.finish(parameters)
            }
        }

        impl $(<$response_life>)? core::fmt::Debug for $response $(<$response_life>)? {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let mut shown = f.debug_struct(stringify!($response));
                $(shown.field(stringify!($response_handle), &self.$response_handle);)?
                $(shown.field(stringify!($result), command!(@shown self.$result $(, $secret)?));)*
                shown.finish()
            }
        }
    };

    // By literals, which rustdoc shows as they are.
    (@authorized $name:ident $(<$life:lifetime>)? {}) => {
        impl $(<$life>)? $crate::commands::Authorized<0> for $name $(<$life>)? {}
    };
    (@authorized $name:ident $(<$life:lifetime>)? { $first:ident }) => {
        impl $(<$life>)? $crate::commands::Authorized<1> for $name $(<$life>)? {}
    };
    (@authorized $name:ident $(<$life:lifetime>)? { $first:ident $second:ident }) => {
        impl $(<$life>)? $crate::commands::Authorized<2> for $name $(<$life>)? {}
    };

    (@at $at:lifetime, $name:ident) => { $name };
    (@at $at:lifetime, $name:ident $life:lifetime) => { $name<$at> };
    (@sized) => { false };
    (@sized $first:ty, $($rest:ty,)*) => { <$first as $crate::wire::Marshal>::SIZED };
    (@handle) => { None };
    (@handle $handle:ident) => { Some(stringify!($handle)) };
    (@sessions) => { true };
    (@sessions no_sessions $($rest:ident)*) => { false };
    (@sessions $other:ident $($rest:ident)*) => { command!(@sessions $($rest)*) };
    (@effect) => { $crate::commands::Effect::None };
    (@effect no_sessions $($rest:ident)*) => { command!(@effect $($rest)*) };
    (@effect flushes) => { $crate::commands::Effect::Flushes };
    (@effect ends_sequence) => { $crate::commands::Effect::EndsSequence };
    (@effect sets_auth) => { $crate::commands::Effect::SetsAuth };
    (@effect clears_auth) => { $crate::commands::Effect::ClearsAuth };
    (@fields $fields:ident $reader:ident $structure:ty { $($field:ident $($secret:ident)?,)* }) => {
        $(
            let value = $fields.parameter(
                $reader, stringify!($field), |structure: &$structure| &structure.$field,
            );
            if let Some(value) = value {
                $fields.show(stringify!($field), command!(@shown value $(, $secret)?));
            }
        )*
    };
    (@shown $field:expr) => { &$field };
    (@shown $field:expr, secret) => { $crate::commands::hidden(&$field) };
}

pub(crate) use {command, numbers, structure, union};
