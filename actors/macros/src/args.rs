//! What stands in the parentheses of the attributes: `crate = path` and `name = "…"`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Ident, LitStr, Path, Token, parse_quote};

/// The options of all attributes.
pub(crate) struct Args {
    krate: Path,
    name: Option<LitStr>,
}

impl Default for Args {
    fn default() -> Self {
        Self { krate: parse_quote!(::mobula), name: None }
    }
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut args = Self::default();
        while !input.is_empty() {
            args.option(input)?;
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(args)
    }
}

impl Args {
    pub(crate) fn option(&mut self, input: ParseStream<'_>) -> syn::Result<()> {
        if input.peek(Token![crate]) {
            input.parse::<Token![crate]>()?;
            input.parse::<Token![=]>()?;
            self.krate = input.parse()?;
            return Ok(());
        }
        let key: Ident = input.parse()?;
        if key != "name" {
            return Err(syn::Error::new(key.span(), format!("unknown option `{key}`; there are: crate, name")));
        }
        input.parse::<Token![=]>()?;
        self.name = Some(input.parse()?);
        Ok(())
    }

    /// Where the things live that generated code needs.
    pub(crate) fn private(&self) -> TokenStream {
        let krate = &self.krate;
        quote!(#krate::__private)
    }

    /// The registered name as an expression: what was given, else the module path and `ident`.
    pub(crate) fn registered_name(&self, ident: &Ident) -> TokenStream {
        if let Some(name) = &self.name {
            return quote!(#name);
        }
        let tail = format!("::{}", unraw(ident));
        quote!(::core::concat!(::core::module_path!(), #tail))
    }

    /// The entry among the operators of the registry.
    pub(crate) fn entry(&self, name: &TokenStream, build: &TokenStream) -> TokenStream {
        self.entry_among(&quote!(OPERATORS), &quote!(OperatorEntry), name, build)
    }

    /// The entry in a slice of the registry, in a scope of its own so that its name meets no other.
    pub(crate) fn entry_among(
        &self,
        slice: &TokenStream,
        entry: &TokenStream,
        name: &TokenStream,
        build: &TokenStream,
    ) -> TokenStream {
        let private = self.private();
        quote! {
            const _: () = {
                #[#private::linkme::distributed_slice(#private::#slice)]
                #[linkme(crate = #private::linkme)]
                static ENTRY: #private::#entry = #private::#entry {
                    name: #name,
                    place: ::core::concat!(::core::file!(), ":", ::core::line!()),
                    build: #build,
                };
            };
        }
    }
}

/// The identifier as it is read, without `r#`.
pub(crate) fn unraw(ident: &Ident) -> String {
    let text = ident.to_string();
    text.strip_prefix("r#").map(str::to_owned).unwrap_or(text)
}
