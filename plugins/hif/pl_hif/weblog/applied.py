def applycal_page(page, ctx, result): page.section("Result")
